// SPDX-License-Identifier: MIT
#pragma once
#include <cstdint>

#include "lox/base/dtype.hpp"
#include "lox/linalg/svd.hpp"

namespace lox {

/// What one matrix costs a rank that solves it alone.
struct LocalCost {
  std::uint64_t memory = 0;  ///< bytes held at the worst moment
  double flops = 0;
  double seconds = 0;
};
LocalCost local_cost(Index rows, Index cols, DType aligned, DType base, Index k, Method method);

/// Seconds to move bytes between disk and memory.
double transfer_seconds(std::uint64_t bytes);

}  // namespace lox
