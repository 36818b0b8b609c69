// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/mpi.hpp"
#include "lox/io/checkpoint.hpp"

namespace lox {

/// The place where an output grows until it is whole: "<output>.partial".
fs::path partial_path(const fs::path& output);

/// Throws Error(bad_input) unless `output` may be written: it does not exist (or `overwrite`), its parent
/// exists and is writable, and it is neither inside one of `inputs` nor one of them inside it.
void check_output(const fs::path& output, bool overwrite, const std::vector<fs::path>& inputs);

/// Renames the finished partial to `output`, durably. What stood there (with overwrite) is moved aside first
/// and removed after.
void publish(const fs::path& partial, const fs::path& output);

/// Writes the model at `source` to `target` in the format of its path, lossless. Work is shared among the
/// ranks. Collective. Returns bytes of tensors and files copied by all ranks.
std::uint64_t convert(const Comm& comm, const fs::path& source, const fs::path& target, bool overwrite);

}  // namespace lox
