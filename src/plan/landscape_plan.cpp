// SPDX-License-Identifier: MIT
#include "lox/plan/landscape_plan.hpp"

#include "lox/io/parts.hpp"
#include "lox/plan/apply_plan.hpp"

#include <algorithm>

namespace lox {
namespace {

constexpr Index block_entries = Index{1} << 18;
constexpr Index stretch_entries = Index{1} << 23;      // where nothing is written
constexpr Index all_stretch_entries = Index{1} << 25;  // of models and targets together

Index entries_at_once(std::size_t models, std::size_t targets) {
  if (targets == 0) return stretch_entries;
  return std::max(block_entries, all_stretch_entries / static_cast<Index>(models + targets));
}

/// The tensor as a batch of matrices where it has factors, else as one matrix of all its rows.
void fit(const TensorInfo& tensor, bool has_factors, Item& item) {
  item.matrix.cols = tensor.shape.empty() ? 1 : tensor.shape.back();
  item.matrix.rows =
      has_factors ? tensor.shape[tensor.shape.size() - 2] : tensor.elements() / item.matrix.cols;
}

}  // namespace

Index landscape_block(Index cols) {
  return std::max<Index>(1, block_entries / cols);
}

Cost landscape_cost(const Item& item, std::size_t others, std::size_t targets) {
  if (item.action == Action::copy) return apply_cost(item, targets);
  const auto entries = static_cast<std::uint64_t>(item.rows.count * item.matrix.cols);
  Cost cost = apply_cost(item, targets);
  // Their rows, of at most 8 bytes an entry; and the blocks in hand, in double.
  cost.memory += others * entries * 8 + item.bytes;
  cost.memory +=
      (others + 4) * static_cast<std::uint64_t>(landscape_block(item.matrix.cols) * item.matrix.cols) * 8;
  cost.bytes_read += others * item.bytes;
  cost.seconds += file_seconds(static_cast<double>(others * item.bytes));
  return cost;
}

Plan plan_landscape(const std::vector<NamedModel>& models, const Checkpoint& store, std::int64_t stored_k,
                    Index k, std::size_t targets, const Resources& resources) {
  const Checkpoint& aligned = *models.front().table;
  const Pairing pairing = pair_models(models, [](const std::string&) { return true; });
  const FactorTable table(store);
  const Index at_once = entries_at_once(models.size(), targets);
  Plan plan;
  for (const NamedModel& model : models) plan.book_keeping += bytes_of_places(*model.table);
  for (std::size_t t = 0; t < aligned.tensors.size(); ++t) {
    const TensorInfo& tensor = aligned.tensors[t];
    plan.book_keeping += 4096 + 16 * tensor.name.size();
    Item item;
    item.matrix.tensors = {static_cast<int>(t)};
    item.bytes = tensor.extent.bytes;
    if (!is_editable(tensor.dtype) || tensor.elements() == 0) {
      if (targets > 0) plan.items.push_back(item);
      continue;
    }
    const FactorIndices parts = table.find(tensor.name);
    const bool has_factors = parts.front() >= 0;
    if (has_factors) check_factors(store, stored_k, tensor, parts);
    item.matrix.tensors.insert(item.matrix.tensors.end(), parts.begin(), parts.end());
    item.matrix.tensors.insert(item.matrix.tensors.end(), pairing[t].begin() + 1, pairing[t].end());
    fit(tensor, has_factors, item);
    item.dtype = item.base_dtype = tensor.dtype;
    item.stored_k = stored_k;
    item.k = k;
    const Index rows = std::max<Index>(1, at_once / item.matrix.cols);
    add_stretches(item, tensor.elements() / (item.matrix.rows * item.matrix.cols),
                  ranges_of(item.matrix.rows, rows), plan.items);
  }
  plan.book_keeping += plan.items.size() * (4096 + 1024 * models.size());
  deal_stretches(plan, aligned, resources,
                 [&](const Item& item) { return landscape_cost(item, models.size() - 1, targets); });
  return plan;
}

}  // namespace lox
