// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/storage.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace lox {

/// Values [first, first + to.size()) of a quantised tensor: code * scale, rounded once to float, as numpy
/// multiplies two float32. `files`: of the tensor's checkpoint. Adds to `*noise`, if it is given, the square
/// of what rounding to the codes has done by estimate: (spacing of E4M3 at the code * scale)^2 / 12 of each
/// value (docs/numerics.md). Throws Error(bad_input), naming file, tensor and index, for a NaN code and for a
/// scale that is NaN, infinite, negative, so large that BF16 overflows, or 0 where a code of its block is
/// not. Holds 2 MiB at most.
void read_values(Storage& storage, const std::vector<fs::path>& files, const TensorInfo& tensor,
                 std::uint64_t first, std::span<float> to, double* noise = nullptr);

/// The same, rounded once more to the tensor's dtype; `first` and the length in bytes of it.
void read_rounded(Storage& storage, const std::vector<fs::path>& files, const TensorInfo& tensor,
                  std::uint64_t first, std::span<std::byte> to);

}  // namespace lox
