// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/io/checkpoint.hpp"
#include "lox/plan/forecast.hpp"

#include <optional>

namespace lox {

/// Writes the model at `source` to `target` in the format of its path, lossless. Work is shared among the
/// ranks. Collective. Returns bytes of tensors and files copied by all ranks; nothing if an earlier run had
/// copied them all: what stands at `target` has the same bytes, or only its name, or the end, was missing.
std::optional<std::uint64_t> convert(const Comm& comm, const fs::path& source, const fs::path& target,
                                     bool overwrite, const Log& log = Log(Log::Level::silent));

/// What that will cost on so many ranks, from headers only. Refuses what convert would refuse.
Forecast plan_convert(const fs::path& source, const fs::path& target, bool overwrite, int ranks,
                      double bandwidth = rank_bandwidth);

}  // namespace lox
