// SPDX-License-Identifier: MIT
#include "lox/plan/adapter_plan.hpp"

#include "lox/base/error.hpp"
#include "lox/plan/apply_plan.hpp"
#include "lox/plan/cost.hpp"

#include <algorithm>

namespace lox {
namespace {

/// The item of a whole matrix, by factors of the adapter.
Item item_of(const AdaptedModel& model, const LoraUpdate& update, const Item& of_tensor) {
  const auto index = static_cast<std::size_t>(of_tensor.matrix.tensor(aligned_model));
  const TensorInfo& tensor = model.table.tensors[index];
  const auto bytes_of = [&](int factor) {
    return factor < 0 ? 0 : model.adapter.table.tensors[static_cast<std::size_t>(factor)].extent.bytes;
  };
  Item item = of_tensor;
  item.merge_only = item.action == Action::copy;
  item.action = Action::edit;
  item.method = Method::lora;
  item.stored_k = update.r;
  item.matrix.rows = update.is_bias() ? 1 : tensor.shape[tensor.shape.size() - 2];
  item.matrix.cols = tensor.shape.back();
  item.dtype = item.base_dtype = tensor.dtype;
  take_rows({0, item.matrix.rows}, item);
  item.shared = update.experts > 1 ? bytes_of(update.b) : 0;
  return item;
}

}  // namespace

void use_adapter(const AdaptedModel& model, Cut cut, Plan& plan) {
  std::vector<Item> items;
  for (const Item& item : plan.items) {
    const int tensor = item.matrix.tensor(aligned_model);
    if (model.replaced.contains(tensor)) {
      items.push_back(item);
      continue;
    }
    if (item.matrix.number > 0) continue;  // of a batch: below, or one copy
    const auto update = model.updates.find(tensor);
    if (update == model.updates.end()) {
      Item copy = item;
      copy.action = Action::copy;
      copy.matrix.rows = copy.matrix.cols = 0;
      copy.bytes = model.table.tensors[static_cast<std::size_t>(tensor)].extent.bytes;
      copy.seconds = local_cost(copy).seconds;
      items.push_back(std::move(copy));
      continue;
    }
    Item one = item_of(model, update->second, item);
    const Item whole = one;
    for (; one.matrix.number < update->second.experts; ++one.matrix.number) {
      std::vector<RowRange> ranges{whole.rows};
      if (cut == Cut::stretches) ranges = stretches(one.dtype, one.matrix.rows, one.matrix.cols);
      for (const RowRange& rows : ranges) {
        take_rows(rows, one);
        one.seconds = local_cost(one).seconds;
        items.push_back(one);
      }
    }
  }
  const auto k = static_cast<std::uint64_t>(std::max<Index>(1, items.empty() ? 1 : items.front().k));
  if (items.size() > plan.items.size())
    plan.book_keeping += (items.size() - plan.items.size()) * (4096 + 256 * k);
  plan.items = std::move(items);
  const auto hardened = [](const Item& item) { return item.action == Action::edit && !item.merge_only; };
  if (std::ranges::any_of(plan.items, hardened)) return;
  fail(ExitCode::bad_input,
       "{}: of what this adapter changes nothing is left to harden; look at --include and --exclude",
       model.adapter.table.path);
}

}  // namespace lox
