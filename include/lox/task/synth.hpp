// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/mpi.hpp"
#include "lox/io/checkpoint.hpp"
#include "lox/plan/forecast.hpp"

#include <optional>

namespace lox {

/// One half of a synthetic pair: weights of deviation 0.02 in the shapes of a real model.
struct SynthOptions {
  fs::path target;
  std::string shape = "tiny";
  std::int64_t layers = -1;  ///< keep the first ones only; negative: all
  std::uint64_t seed = 0;
  bool aligned = false;  ///< base + decaying low-rank part + noise, else the base itself
  bool overwrite = false;
  bool fp8 = false;           ///< matrices of the layers as codes and scales, as DeepSeek-V3 has them
  bool headers_only = false;  ///< sparse files without weights, to plan with
};

/// Makes it; tensors are shared among the ranks. The same seed gives the same bytes on any ranks. Throws
/// Error(stopped) on a signal, and leaves nothing. Collective. Returns the bytes written by all ranks;
/// nothing if an earlier run had written them all and only the name, or the end, was missing.
std::optional<std::uint64_t> synthesise(const Comm& comm, const SynthOptions& options);

/// What that will cost on so many ranks.
Forecast plan_synth(const SynthOptions& options, int ranks, double bandwidth = rank_bandwidth);

}  // namespace lox
