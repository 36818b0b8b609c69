// SPDX-License-Identifier: MIT
#include "lox/plan/cost.hpp"

#include "lox/base/file.hpp"
#include "lox/linalg/process_grid.hpp"
#include "lox/plan/job.hpp"

#include <algorithm>

namespace lox {
namespace {

// Speeds of one rank of one thread on two cores that share a disk, from docs/benchmarks.md (jobs/bench.sh).
constexpr double extrapolation_flops_per_second = 9.8e10;
constexpr double psgesvd_flops_per_second = 2e9;
constexpr double entries_per_second =
    3.8e8;  // all but products: copying, subtracting, orthonormalising, rounding
constexpr double lapack_flops_per_second = 4e9;  // thin QRs in double
constexpr double check_flops_per_second = 2e10;  // of verify, in double
constexpr double grid_efficiency = 0.6;
constexpr double sum_bytes = 16 * 4 * 8;  // for each column: sums of up to 16 threads that share a product
// Pieces of the base, and one of the output on its way past the page cache.
constexpr double file_pieces = (8 << 20) + File::direct_piece;

struct Sizes {
  double m, n, least, entries, k, block;
  double held, base_held;  ///< bytes of both matrices in memory
  double read, base_read;  ///< on disk
  double written;
  double columns;  ///< of all panels of the Krylov method together
};

Sizes sizes_of(const Item& item) {
  Sizes s{};
  s.m = static_cast<double>(item.matrix.rows);
  s.n = static_cast<double>(item.matrix.cols);
  s.least = std::min(s.m, s.n);
  s.entries = s.m * s.n;
  s.held = s.entries * static_cast<double>(element_bytes(held_dtype(item)));
  s.base_held = s.entries * static_cast<double>(element_bytes(item.base_dtype));
  s.written = s.entries * static_cast<double>(element_bytes(item.dtype));
  s.read = item.quantised ? s.entries : s.written;
  s.base_read = static_cast<double>(base_stored_bytes(item));
  s.k = item.k == full_rank ? s.least : std::min(static_cast<double>(item.k), s.least);
  s.block = static_cast<double>(krylov_block);
  // The basis with a block ahead, a copy of its better half in a restart, the triplets that wait for a
  // probe's end and those measured, the blocks in hand.
  s.columns = 1.5 * static_cast<double>(krylov_basis(item.k, item.proof)) + 2 * s.k + 5 * s.block;
  return s;
}

/// What models that are solved one after the other beside the first one add. The base's rows are held, the
/// others' are not; the factors of the first one are kept, and its U's image.
void add_tuned(const Item& item, const Sizes& s, int ranks, Cost& cost) {
  if (item.tuned == 0) return;
  const double kept = 8 * (s.m + 2 * s.n) * s.k;
  const double base = item.where == Where::local ? std::max(0.0, s.base_held - s.held) : 0;
  cost.memory += static_cast<std::uint64_t>(kept + base) + item.shared;
  cost.exact_memory += static_cast<std::uint64_t>(kept + base) + item.shared;
  const auto models = static_cast<std::uint64_t>(item.tuned);
  // On the grid there is no room for the base's rows: they are read again with each.
  const double rows = item.where == Where::local ? s.read : (s.read + s.base_read) / ranks;
  cost.bytes_read += models * static_cast<std::uint64_t>(rows);
  cost.flops *= static_cast<double>(1 + models);
  cost.seconds *= static_cast<double>(1 + models);
}

Cost copy_cost(const Item& item, double bandwidth) {
  Cost cost;
  cost.memory = copy_memory(item);
  cost.bytes_read = stored_bytes(item);
  cost.bytes_written = item.bytes;
  cost.seconds = static_cast<double>(stored_bytes(item) + item.bytes) / bandwidth;
  return cost;
}

}  // namespace

std::uint64_t adapter_bytes(const MatrixRef& matrix, std::int64_t rank) {
  return static_cast<std::uint64_t>(64 * (matrix.rows + matrix.cols) * rank);
}

namespace {

/// Rows of the base that get an adapter's Delta: its factors in double, their QRs and what comes of them.
Cost lora_cost(const Item& item, double bandwidth) {
  const auto m = static_cast<double>(item.matrix.rows);
  const auto n = static_cast<double>(item.matrix.cols);
  const auto r = static_cast<double>(item.stored_k);
  const auto rows = static_cast<double>(item.rows.count);
  const auto held = static_cast<double>(held_bytes(item));
  const std::uint64_t entries_at_once = stretch_bytes / element_bytes(item.dtype);
  const auto most = static_cast<double>(entries_at_once * element_bytes(held_dtype(item)));
  Cost cost;
  const double least = std::min(m, n);
  const double whole = least <= static_cast<double>(item.k) ? 12 * m * n : 0;  // Delta itself, in a store
  cost.memory = static_cast<std::uint64_t>(std::min(held, most) + File::direct_piece + (16 << 20) +
                                           static_cast<double>(adapter_bytes(item.matrix, item.stored_k)) +
                                           12 * (m + n) * static_cast<double>(item.k) + whole) +
                item.shared;
  cost.exact_memory = cost.memory;
  cost.bytes_read = stored_bytes(item);
  cost.bytes_written = item.bytes;
  const double factoring = 12 * (m + n) * r * r;
  const double extrapolation = 2 * rows * n * r;
  cost.flops = factoring + extrapolation;
  cost.seconds = std::max(factoring / lapack_flops_per_second +
                              extrapolation / extrapolation_flops_per_second + rows * n / entries_per_second,
                          static_cast<double>(stored_bytes(item) + item.bytes) / bandwidth);
  cost.first_read = static_cast<double>(stored_bytes(item)) / bandwidth;
  return cost;
}

}  // namespace

std::uint64_t copy_memory(const Item& item) {
  constexpr std::uint64_t at_once = std::uint64_t{32} << 20;
  constexpr std::uint64_t decoding = std::uint64_t{2} << 20;
  return std::min(item.bytes, at_once) + (item.quantised ? decoding : 0) + File::direct_piece;
}

Item by_exact_method(Item item) {
  item.method = Method::exact;
  return item;
}

Cost local_cost(const Item& item, double bandwidth) {
  if (item.action == Action::copy) return copy_cost(item, bandwidth);
  if (item.method == Method::lora) return lora_cost(item, bandwidth);
  const Sizes s = sizes_of(item);
  Cost cost;
  double memory = s.held + 4 * s.entries + file_pieces;
  Effort effort;
  if (item.method == Method::krylov) {
    effort = krylov_effort(s.m, s.n, item.k);
    memory += 8 * (s.m + s.n) * s.columns + sum_bytes * s.n;  // panels are double where float is too narrow
  } else if (item.method != Method::full) {
    effort = exact_effort(s.m, s.n, item.k);
    memory += 8 * s.least * (s.least + 512 + 5 * s.k) + 24 * (s.m + s.n) * s.k;
  }
  cost.flops = effort.flops;
  cost.memory = static_cast<std::uint64_t>(memory);
  cost.exact_memory = cost.memory;
  if (item.method == Method::krylov) cost.exact_memory = local_cost(by_exact_method(item)).memory;
  cost.bytes_read = static_cast<std::uint64_t>(s.read + s.base_read);
  cost.bytes_written = static_cast<std::uint64_t>(s.written);
  const double extrapolation = 2 * s.entries * (item.method == Method::full ? 1 : s.k);
  // The pipeline moves files while it calculates.
  cost.seconds = std::max(
      effort.seconds + extrapolation / extrapolation_flops_per_second + s.entries / entries_per_second,
      (s.read + s.base_read + s.written) / bandwidth);
  cost.first_read = (s.read + s.base_read) / bandwidth;
  cost.flops += extrapolation;
  add_tuned(item, s, 1, cost);
  return cost;
}

Cost grid_cost(const Item& item, int ranks, double bandwidth) {
  if (item.action == Action::copy) return copy_cost(item, bandwidth);
  const Sizes s = sizes_of(item);
  const GridShape grid = choose_grid(ranks, item.matrix.cols, item.matrix.rows);
  const double active = grid.size();
  const double all = ranks;
  Cost cost;
  const double band = std::min(static_cast<double>(grid_band_bytes), 4 * s.entries / all);
  double memory = 4 * s.entries / active + 8 * (s.m + s.n) * 2 * s.k;
  double seconds = 0;
  if (item.method == Method::full) {
    memory = 0;
  } else if (item.method == Method::krylov) {
    const Effort effort = krylov_effort(s.m, s.n, item.k);
    cost.flops = effort.flops / active;
    seconds = effort.seconds / active / grid_efficiency;
    memory += 8 * (s.m / grid.cols + s.n / grid.rows) * s.columns + sum_bytes * s.n / grid.rows;
  } else {
    // p?gesvd: a copy, all vectors of both sides, and as much again to work on them in a 1-D distribution.
    cost.flops = (4 * s.entries * s.least + 12 * s.least * s.least * (s.m + s.n)) / active;
    seconds = cost.flops / psgesvd_flops_per_second;
    memory += 4 * (s.entries + 2 * s.least * (s.m + s.n)) / active;
  }
  const double extrapolation = 2 * s.entries * (item.method == Method::full ? 1 : s.k) / all;
  // A band: its delta, the aligned rows, a piece of the base, and the redistribution's two copies.
  memory += 3.5 * band + file_pieces;
  cost.memory = static_cast<std::uint64_t>(memory);
  cost.exact_memory = cost.memory;
  if (item.method == Method::krylov) cost.exact_memory = grid_cost(by_exact_method(item), ranks).memory;
  const double reads = item.method == Method::full ? 1 : 2;  // of the aligned rows: before and after the SVD
  cost.bytes_read = static_cast<std::uint64_t>((reads * s.read + s.base_read) / all);
  cost.bytes_written = static_cast<std::uint64_t>(s.written / all);
  cost.seconds = seconds + extrapolation / extrapolation_flops_per_second +
                 s.entries / all / entries_per_second +
                 static_cast<double>(cost.bytes_read + cost.bytes_written) / bandwidth;
  cost.flops += extrapolation;
  add_tuned(item, s, ranks, cost);
  return cost;
}

Cost CostTable::of(const Item& item) {
  if (item.action == Action::copy) return copy_cost(item, bandwidth_);
  if (item.method == Method::lora) return lora_cost(item, bandwidth_);
  const Kind kind{item.matrix.rows, item.matrix.cols,    item.dtype, item.base_dtype,
                  item.quantised,   item.base_quantised, item.k,     item.proof,
                  item.method,      item.where,          item.tuned, item.shared};
  const auto [known, fresh] = known_.try_emplace(kind);
  if (fresh)
    known->second =
        item.where == Where::grid ? grid_cost(item, ranks_, bandwidth_) : local_cost(item, bandwidth_);
  return known->second;
}

Cost check_cost(const Item& item) {
  const Sizes s = sizes_of(item);
  const double most = s.entries / s.least;
  Cost cost;
  // Both models and the result, Delta in float and rows of it in double, a Gram matrix twice, vectors and
  // workspace.
  cost.memory = static_cast<std::uint64_t>(s.held + s.base_held + s.written + 4 * s.entries +
                                           8 * s.least * (2 * s.least + 256) + 8 * 1024 * most);
  cost.flops = 2 * s.entries * s.least + 4 * s.least * s.least * s.least / 3;
  cost.seconds = cost.flops / check_flops_per_second;
  cost.bytes_read = static_cast<std::uint64_t>(s.read + s.base_read + s.written);
  return cost;
}

double file_seconds(double bytes, double bandwidth) {
  return bytes / bandwidth;
}

}  // namespace lox
