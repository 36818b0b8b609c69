// SPDX-License-Identifier: MIT
#include "lox/plan/apply_plan.hpp"

#include "lox/base/error.hpp"
#include "lox/base/units.hpp"
#include "lox/io/parts.hpp"
#include "lox/io/safetensors_header.hpp"
#include "lox/linalg/extrapolate.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

namespace lox {
namespace {

std::vector<std::int64_t> shape_of(const TensorInfo& tensor, std::int64_t rows, std::int64_t k) {
  std::vector<std::int64_t> shape(tensor.shape.begin(), tensor.shape.end() - 2);
  if (rows > 0) shape.push_back(rows);
  shape.push_back(k);
  return shape;
}

/// The matrix must be one that has factors.
void check_matrix(const Checkpoint& aligned, const TensorInfo& tensor, const Checkpoint& store) {
  if (tensor.shape.size() >= 2 && is_editable(tensor.dtype)) return;
  fail(ExitCode::bad_input, "{}: has factors of tensor '{}', which in {} is no matrix", store.path,
       tensor.name, aligned.path);
}

/// Every tensor of the store must have been found with one of the aligned model.
void check_nothing_left(const Checkpoint& aligned, const Checkpoint& store, const std::set<int>& used) {
  for (std::size_t i = 0; i < store.tensors.size(); ++i) {
    if (used.contains(static_cast<int>(i))) continue;
    fail(ExitCode::bad_input,
         "{}: tensor '{}' is no part of the factors of any tensor of {}: they are of another model",
         store.path, store.tensors[i].name, aligned.path);
  }
}

Item copy_of(int tensor, const TensorInfo& info) {
  Item item;
  item.matrix.tensors = {tensor};
  item.bytes = info.extent.bytes;
  item.quantised = info.quantised != nullptr;
  return item;
}

/// Appends the stretches of all matrices of a tensor that a store has factors of.
void add_tensor(int index, const TensorInfo& tensor, const FactorIndices& parts,
                std::pair<std::int64_t, Index> ranks, std::vector<Item>& items) {
  Item item;
  item.matrix.tensors = {index};
  item.matrix.tensors.insert(item.matrix.tensors.end(), parts.begin(), parts.end());
  item.matrix.rows = tensor.shape[tensor.shape.size() - 2];
  item.matrix.cols = tensor.shape.back();
  if (item.matrix.rows * item.matrix.cols == 0) return;
  item.dtype = item.base_dtype = tensor.dtype;
  item.quantised = tensor.quantised != nullptr;
  item.stored_k = ranks.first;
  item.k = ranks.second;
  add_stretches(item, tensor.elements() / (item.matrix.rows * item.matrix.cols),
                stretches(tensor.dtype, item.matrix.rows, item.matrix.cols), items);
}

}  // namespace

std::vector<RowRange> stretches(DType dtype, Index rows, Index cols, std::uint64_t bytes) {
  const std::uint64_t row_bytes = static_cast<std::uint64_t>(cols) * element_bytes(dtype);
  const Index block = extrapolation_block(dtype, cols);
  const Index at_once = std::max<Index>(1, static_cast<Index>(bytes / row_bytes) / block) * block;
  return ranges_of(rows, at_once);
}

std::vector<RowRange> ranges_of(Index rows, Index at_once) {
  std::vector<RowRange> ranges;
  for (Index first = 0; first < rows; first += at_once)
    ranges.push_back({first, std::min(at_once, rows - first)});
  return ranges;
}

void check_factors(const Checkpoint& store, std::int64_t k, const TensorInfo& tensor,
                   const FactorIndices& parts) {
  const std::int64_t m = tensor.shape[tensor.shape.size() - 2];
  const std::int64_t n = tensor.shape.back();
  const std::array<std::int64_t, 3> rows{m, 0, n};
  for (std::size_t which = 0; which < factor_parts; ++which) {
    const bool is_delta = static_cast<FactorPart>(which) == FactorPart::delta;
    const bool wanted = is_delta ? std::min(m, n) <= k : which < rows.size() || dtype_bits(tensor.dtype) > 16;
    if (parts[which] < 0 && !wanted) continue;
    const std::string name = factor_name(tensor.name, static_cast<FactorPart>(which));
    if (parts[which] < 0) fail(ExitCode::bad_input, "{}: lacks tensor '{}'", store.path, name);
    const TensorInfo& found = store.tensors[static_cast<std::size_t>(parts[which])];
    const std::vector<std::int64_t> shape =
        is_delta ? tensor.shape : shape_of(tensor, rows[which % rows.size()], k);
    const DType dtype = factor_dtype(static_cast<FactorPart>(which));
    if (found.shape != shape || found.dtype != dtype) {
      fail(ExitCode::bad_input,
           "{}: tensor '{}' is {} {}, but {} factors of '{}' {} would be {} {}: the store is damaged or of "
           "another model",
           store.path, name, dtype_name(found.dtype), shape_text(found.shape), k, tensor.name,
           shape_text(tensor.shape), dtype_name(dtype), shape_text(shape));
    }
  }
}

Cost apply_cost(const Item& item, std::size_t targets, double bandwidth) {
  constexpr double flops_per_second = 9.8e10;
  Cost cost;
  cost.bytes_read = stored_bytes(item);
  cost.bytes_written = targets * item.bytes;
  cost.seconds = file_seconds(static_cast<double>(cost.bytes_read + cost.bytes_written), bandwidth);
  cost.memory = copy_memory(item);
  if (item.action == Action::copy) return cost;
  const auto rows = static_cast<double>(item.rows.count);
  const auto cols = static_cast<double>(item.matrix.cols);
  const auto k = static_cast<double>(item.k);
  cost.flops = 2 * rows * cols * k * static_cast<double>(targets);
  cost.seconds = std::max(cost.seconds, cost.flops / flops_per_second);
  const bool whole = std::min(item.matrix.rows, item.matrix.cols) <= item.k;
  // Rows for every target; factors in double and as weights; all columns of a part as it is read, twice where
  // it has a low one; what a block adds.
  const double factors = 28 * (rows + cols) * k +
                         8 * std::max(rows, cols) * static_cast<double>(item.stored_k) +
                         (whole ? 4 * rows * cols : 0) + (16 << 20);
  cost.memory = targets * held_bytes(item) + File::direct_piece + static_cast<std::uint64_t>(factors);
  return cost;
}

void add_stretches(Item item, std::int64_t matrices, const std::vector<RowRange>& ranges,
                   std::vector<Item>& items) {
  item.action = Action::edit;
  for (item.matrix.number = 0; item.matrix.number < matrices; ++item.matrix.number) {
    for (const RowRange& rows : ranges) {
      take_rows(rows, item);
      items.push_back(item);
    }
  }
}

void deal_stretches(Plan& plan, const Checkpoint& aligned, const Resources& resources,
                    const std::function<Cost(const Item&)>& cost_of) {
  for (Item& item : plan.items) {
    const Cost cost = cost_of(item);
    item.seconds = cost.seconds;
    const std::uint64_t needed = program_memory + plan.book_keeping + cost.memory;
    if (!resources.memory || needed <= *resources.memory) continue;
    fail(ExitCode::bad_input,
         "tensor '{}' needs {} a rank, but a rank has {}; give each rank more (--memory), or make fewer "
         "outputs at "
         "once",
         aligned.tensors[static_cast<std::size_t>(item.matrix.tensor(aligned_model))].name,
         format_bytes(static_cast<double>(needed)), format_bytes(static_cast<double>(*resources.memory)));
  }
  std::stable_sort(plan.items.begin(), plan.items.end(),
                   [](const Item& x, const Item& y) { return x.seconds > y.seconds; });
  deal(plan.items, resources.ranks);
}

Plan plan_apply(const Checkpoint& aligned, const Checkpoint& store, std::int64_t stored_k, Index k,
                std::size_t targets, const Resources& resources) {
  Plan plan;
  plan.book_keeping = bytes_of_places(aligned);
  const FactorTable table(store);
  std::set<int> used;
  for (std::size_t t = 0; t < aligned.tensors.size(); ++t) {
    const TensorInfo& tensor = aligned.tensors[t];
    const FactorIndices parts = table.find(tensor.name);
    plan.book_keeping += 4096 + 16 * tensor.name.size();
    if (parts.front() < 0) {
      plan.items.push_back(copy_of(static_cast<int>(t), tensor));
      continue;
    }
    check_matrix(aligned, tensor, store);
    check_factors(store, stored_k, tensor, parts);
    used.insert(parts.begin(), parts.end());
    add_tensor(static_cast<int>(t), tensor, parts, {stored_k, k}, plan.items);
  }
  check_nothing_left(aligned, store, used);
  plan.book_keeping += plan.items.size() * (4096 + 256 * static_cast<std::uint64_t>(k));
  deal_stretches(plan, aligned, resources, [&](const Item& item) { return apply_cost(item, targets); });
  return plan;
}

Forecast forecast_apply(const Plan& plan, const Checkpoint& aligned, std::size_t targets, int ranks,
                        double bandwidth) {
  Forecast all;
  all.bandwidth = bandwidth;
  all.ranks.resize(static_cast<std::size_t>(ranks));
  for (const Item& item : plan.items) {
    const Cost cost = apply_cost(item, targets, bandwidth);
    Forecast::Rank& rank = all.ranks[static_cast<std::size_t>(item.rank)];
    rank.memory = std::max(rank.memory, program_memory + plan.book_keeping + cost.memory);
    rank.bytes_read += cost.bytes_read;
    rank.bytes_written += cost.bytes_written;
    rank.flops += cost.flops;
    rank.seconds += cost.seconds;
  }
  for (const Forecast::Rank& rank : all.ranks) {
    all.bytes_read += rank.bytes_read;
    all.bytes_written += rank.bytes_written;
    all.flops += rank.flops;
    all.seconds = std::max(all.seconds, rank.seconds);
  }
  all.disk = targets * aligned.bytes_with_files();
  return all;
}

}  // namespace lox
