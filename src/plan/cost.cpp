// SPDX-License-Identifier: MIT
#include "lox/plan/cost.hpp"

#include <algorithm>

namespace lox {
namespace {

// A core's speed at thin float products and a disk's: only their ratio matters for dealing items out.
constexpr double flops_per_second = 3e10;
constexpr double bytes_per_second = 1.5e9;

}  // namespace

double transfer_seconds(std::uint64_t bytes) { return static_cast<double>(bytes) / bytes_per_second; }

LocalCost local_cost(Index rows, Index cols, DType aligned, DType base, Index k, Method method) {
  const auto m = static_cast<double>(rows);
  const auto n = static_cast<double>(cols);
  const auto least = std::min(m, n);
  const double entries = m * n;
  const double aligned_bytes = entries * dtype_bits(aligned) / 8;
  const double base_bytes = entries * dtype_bits(base) / 8;
  LocalCost cost;
  double memory = aligned_bytes + base_bytes + 4 * entries;
  if (method == Method::krylov && !prefers_exact(rows, cols, k)) {
    const double passes = 2 * 6;
    cost.flops = 2 * entries * static_cast<double>(krylov_block(k)) * passes;
    memory += 4 * (m + n) * static_cast<double>(krylov_basis(k) + 4 * krylov_block(k));
  } else if (method != Method::full) {
    cost.flops = 2 * entries * least + 4 * least * least * least;
    memory += 8 * least * (least + 2 * 512 + 2 * static_cast<double>(std::min<Index>(k, std::min(rows, cols))));
  }
  cost.flops += 2 * entries * static_cast<double>(std::min<Index>(k, std::min(rows, cols)));
  cost.memory = static_cast<std::uint64_t>(memory);
  cost.seconds = cost.flops / flops_per_second +
                 transfer_seconds(static_cast<std::uint64_t>(2 * aligned_bytes + base_bytes));
  return cost;
}

}  // namespace lox
