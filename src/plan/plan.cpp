// SPDX-License-Identifier: MIT
#include "lox/plan/plan.hpp"

#include "lox/base/error.hpp"
#include "lox/base/units.hpp"
#include "lox/io/parts.hpp"
#include "lox/linalg/dist_svd.hpp"
#include "lox/plan/adapter_plan.hpp"
#include "lox/plan/cost.hpp"
#include "lox/plan/patterns.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <queue>
#include <string>
#include <tuple>

namespace lox {
namespace {

bool is_matrix(const TensorInfo& tensor) {
  return tensor.shape.size() >= 2 && tensor.elements() > 0;
}

/// The time when the last rank has done its local items, dealt longest first to the least loaded one.
/// `assign` gets each item's rank.
template <class Assign>
double deal_items(const std::vector<Item>& items, int ranks, Assign assign) {
  using Load = std::pair<double, int>;  // seconds, rank: equal loads go to the lower rank
  std::priority_queue<Load, std::vector<Load>, std::greater<>> loads;
  for (int rank = 0; rank < ranks; ++rank) loads.emplace(0.0, rank);
  double longest = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (items[i].where == Where::grid) continue;
    auto [load, rank] = loads.top();
    loads.pop();
    assign(i, rank);
    load += items[i].seconds + (load == 0 ? items[i].first_read : 0);
    loads.emplace(load, rank);
    longest = std::max(longest, load);
  }
  return longest;
}

/// Where the factors are known there is nothing to solve together.
bool may_go_to_grid(const Item& item) {
  return item.action == Action::edit && item.method != Method::lora;
}

Item on_grid(Item item, int ranks) {
  item.where = Where::grid;
  item.method = method_for(item);
  item.seconds = grid_cost(item, ranks).seconds;
  return item;
}

Item make_item(const std::vector<NamedModel>& models, const std::vector<int>& tensors,
               const SolveOptions& solve, bool edit) {
  const TensorInfo& tensor = models[aligned_model].table->tensors[static_cast<std::size_t>(tensors[0])];
  Item item;
  item.matrix.tensors = tensors;
  item.bytes = tensor.extent.bytes;
  item.quantised = tensor.quantised != nullptr;
  if (edit) {
    item.action = Action::edit;
    item.matrix.rows = tensor.shape[tensor.shape.size() - 2];
    item.matrix.cols = tensor.shape.back();
    item.dtype = tensor.dtype;
    const TensorInfo& base = models[base_model].table->tensors[static_cast<std::size_t>(tensors[base_model])];
    item.base_dtype = base.value_dtype();
    item.base_quantised = base.quantised != nullptr;
    if (differs_in_rows(tensor.shape, base.shape))
      item.matrix.common = std::min(tensor.shape[0], base.shape[0]);
    take_rows({0, item.matrix.rows}, item);
    item.k = solve.k;
    item.svd = solve.svd;
    item.proof = solve.proof;
  }
  return item;
}

/// Bytes that a tensor and its items take beside their matrices: in the tables, the plan, as records, lines
/// of the journal and entries of the report, which rank 0 holds all of at the end. Measured
/// (docs/architecture.md).
std::uint64_t book_keeping_of(const TensorInfo& tensor, const Item& item, std::int64_t matrices) {
  constexpr double most = std::uint64_t{1} << 60;  // far from an overflow of the sum
  const auto name = static_cast<double>(tensor.name.size());
  const auto k = static_cast<double>(std::min({item.k, item.matrix.rows, item.matrix.cols}));
  const double bytes = 3072 + 12 * name + static_cast<double>(matrices) * (4096 + 4 * name + 256 * k);
  return static_cast<std::uint64_t>(std::min(bytes, most));
}

/// Method and seconds of items, if one rank does them. Many are of one shape.
class Estimates {
 public:
  void fill_in(Item& item) {
    if (item.action == Action::edit) {
      const auto [known, fresh] = methods_.try_emplace({item.matrix.rows, item.matrix.cols});
      if (fresh) known->second = method_for(item);
      item.method = known->second;
    }
    const Cost cost = costs_.of(item);
    item.seconds = cost.seconds;
    item.first_read = cost.first_read;
  }

 private:
  CostTable costs_{1};
  std::map<std::pair<Index, Index>, Method> methods_;
};

void refuse_what_does_not_fit(const Checkpoint& aligned, const Plan& plan, GridUse use,
                              const Resources& resources) {
  if (!resources.memory) return;
  CostTable costs(resources.ranks);
  for (const Item& item : plan.items) {
    const bool grid = item.where == Where::grid;
    const std::uint64_t needed = program_memory + plan.book_keeping + costs.of(item).memory;
    if (needed <= *resources.memory) continue;
    const char* const help = !grid && use == GridUse::never && resources.ranks > 1
                                 ? "let the ranks share it (--grid auto), or give each rank more (--memory)"
                                 : "use more ranks, on more nodes, or give each rank more (--memory)";
    fail(ExitCode::bad_input, "tensor '{}' needs {} a rank {}, but a rank has {}; {}",
         aligned.tensors[static_cast<std::size_t>(item.matrix.tensor(aligned_model))].name,
         format_bytes(static_cast<double>(needed)),
         grid ? fmt::format("on a grid of {} ranks", resources.ranks) : "on one rank",
         format_bytes(static_cast<double>(*resources.memory)), help);
  }
}

}  // namespace

Method method_for(const Item& item) {
  const auto [rows, cols] = std::pair(item.matrix.rows, item.matrix.cols);
  if (item.k == full_rank || item.k >= std::min(rows, cols)) return Method::full;  // Delta_k = Delta
  const bool exact =
      item.where == Where::grid ? prefers_exact_on_grid(rows, cols) : prefers_exact(rows, cols, item.k);
  return exact ? Method::exact : item.svd;
}

double deal(std::vector<Item>& items, int ranks) {
  return deal_items(items, ranks, [&](std::size_t i, int rank) { items[i].rank = rank; });
}

void choose_grid_items(std::vector<Item>& items, GridUse use, const Resources& resources) {
  CostTable costs(resources.ranks);
  const auto fits_alone = [&](const Item& item) {
    return !resources.memory || costs.of(item).memory + program_memory <= *resources.memory;
  };
  if (use == GridUse::never) return;
  for (Item& item : items) {
    if (!may_go_to_grid(item)) continue;
    if (use == GridUse::always || (resources.ranks > 1 && !fits_alone(item))) {
      item = on_grid(item, resources.ranks);
    }
  }
  if (use == GridUse::always || resources.ranks == 1) return;
  // Send the longest local items one by one, and remember after how many the end came soonest.
  constexpr std::size_t at_most = 64;
  const auto ignore = [](std::size_t, int) {};
  std::vector<std::size_t> sent;
  double local_seconds = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (items[i].where == Where::grid) continue;
    local_seconds += items[i].seconds;
    if (may_go_to_grid(items[i]) && sent.size() < at_most) sent.push_back(i);
  }
  double best = deal_items(items, resources.ranks, ignore) * 0.95;
  double grid_seconds = 0;
  std::size_t chosen = 0;
  std::vector<Item> trial = items;
  for (std::size_t count = 1; count <= sent.size(); ++count) {
    Item& item = trial[sent[count - 1]];
    local_seconds -= item.seconds;
    item = on_grid(item, resources.ranks);
    grid_seconds += item.seconds;
    // No way to deal ends sooner than an even share: most trials need not be dealt.
    if (grid_seconds + 0.999999 * local_seconds / resources.ranks >= best) continue;
    const double total = grid_seconds + deal_items(trial, resources.ranks, ignore);
    if (total >= best) continue;
    best = total;
    chosen = count;
  }
  for (std::size_t i = 0; i < chosen; ++i) items[sent[i]] = std::move(trial[sent[i]]);
}

Plan make_items(const std::vector<NamedModel>& models, const Selection& selection, const SolveOptions& solve,
                const std::optional<std::uint64_t>& memory, const PairRules& rules) {
  const Patterns patterns(selection);
  const Checkpoint& first = *models.front().table;
  const Pairing pairing = pair_models(
      models, [&](const std::string& name) { return patterns.takes(name); }, rules);
  patterns.refuse_idle(models);
  Plan plan;
  for (const NamedModel& model : models) plan.book_keeping += bytes_of_places(*model.table);
  Estimates estimates;
  bool any = false;
  for (std::size_t t = 0; t < pairing.size(); ++t) {
    const TensorInfo& tensor = first.tensors[t];
    const bool edit = is_editable(tensor.dtype) && is_matrix(tensor) && patterns.takes(tensor.name) &&
                      pairing[t][base_model] >= 0 && !is_left_out(tensor, selection);
    Item item = make_item(models, pairing[t], solve, edit);
    estimates.fill_in(item);
    const std::int64_t matrices = edit ? tensor.elements() / (item.matrix.rows * item.matrix.cols) : 1;
    plan.book_keeping += book_keeping_of(tensor, item, matrices);
    if (memory && program_memory + plan.book_keeping > *memory) {
      fail(ExitCode::bad_input,
           "{}: tensor '{}' holds {} matrices; to keep account of all up to there takes {}, but a rank has "
           "{}; "
           "leave such tensors out (--exclude), or give each rank more (--memory)",
           first.path, tensor.name, matrices,
           format_bytes(static_cast<double>(program_memory + plan.book_keeping)),
           format_bytes(static_cast<double>(*memory)));
    }
    for (item.matrix.number = 0; item.matrix.number < matrices; ++item.matrix.number) {
      plan.items.push_back(item);
    }
    any = any || edit;
  }
  if (!any) {
    fail(ExitCode::bad_input, "{}: no tensor is left to edit{}", first.path,
         selection.include.empty() && selection.exclude.empty()
             ? "; lox edits floating tensors of two or more dimensions"
             : "; look at --include and --exclude, or list the names with 'lox inspect'");
  }
  return plan;
}

namespace {

std::optional<std::uint64_t> memory_of_planner(const Resources& resources) {
  return resources.own ? resources.own : resources.memory;
}

Plan items_of_pair(const Checkpoint& base, const Checkpoint& aligned, const Job& job,
                   const Resources& resources, const AdaptedModel* adapter, Cut cut) {
  Plan plan = make_items({{"aligned", &aligned}, {"base", &base}}, job.selection, job.solve,
                         memory_of_planner(resources), job.pairing);
  if (adapter != nullptr) use_adapter(*adapter, cut, plan);
  return plan;
}

/// Where and by whom items are done, of those that make_items() gave.
Plan decided(Plan plan, const Checkpoint& aligned, const Job& job, const Resources& resources) {
  Resources left = resources;
  if (left.memory) *left.memory -= std::min(*left.memory, plan.book_keeping);
  std::stable_sort(plan.items.begin(), plan.items.end(),
                   [](const Item& x, const Item& y) { return x.seconds > y.seconds; });
  choose_grid_items(plan.items, job.run.grid, left);
  std::stable_partition(plan.items.begin(), plan.items.end(),
                        [](const Item& item) { return item.where == Where::grid; });
  deal(plan.items, resources.ranks);
  refuse_what_does_not_fit(aligned, plan, job.run.grid, resources);
  return plan;
}

/// The same for tasks that need the factors of every matrix and copy nothing: what is edited without a
/// solution is solved by the exact method, each by one rank.
Plan decided_to_solve_all(Plan plan, const Checkpoint& aligned, const Job& job, const Resources& resources) {
  plan = decided(std::move(plan), aligned, job, resources);
  std::erase_if(plan.items, [](const Item& item) { return item.action == Action::copy || item.merge_only; });
  for (Item& item : plan.items) {
    if (item.method != Method::full) continue;
    item.where = Where::local;
    item = by_exact_method(item);
    const Cost cost = local_cost(item);
    item.seconds = cost.seconds;
    item.first_read = cost.first_read;
  }
  std::stable_sort(plan.items.begin(), plan.items.end(), [](const Item& x, const Item& y) {
    return std::pair(x.where == Where::local, -x.seconds) < std::pair(y.where == Where::local, -y.seconds);
  });
  deal(plan.items, resources.ranks);
  refuse_what_does_not_fit(aligned, plan, job.run.grid, resources);
  return plan;
}

}  // namespace

Plan make_plan(const Checkpoint& base, const Checkpoint& aligned, const Job& job, const Resources& resources,
               const AdaptedModel* adapter) {
  return decided(items_of_pair(base, aligned, job, resources, adapter, Cut::stretches), aligned, job,
                 resources);
}

Plan plan_factors(const Checkpoint& base, const Checkpoint& aligned, const Job& job,
                  const Resources& resources, const AdaptedModel* adapter) {
  return decided_to_solve_all(items_of_pair(base, aligned, job, resources, adapter, Cut::none), aligned, job,
                              resources);
}

Plan plan_analysis(const std::vector<NamedModel>& models, const Job& job, const TunedNeeds& needs,
                   const Resources& resources) {
  Plan plan = make_items(models, job.selection, job.solve, memory_of_planner(resources));
  constexpr std::uint64_t number = 48;  // as a double, and its text in a line of the journal and at the end
  const std::uint64_t tuned = models.size() - tuned_model;
  for (Item& item : plan.items) {
    if (item.action == Action::copy) continue;
    item.tuned = static_cast<int>(tuned);
    item.seconds *= static_cast<double>(1 + tuned);
    item.shared = adapter_bytes(item.matrix, needs.adapter_rank);
    plan.book_keeping += number * tuned * needs.numbers;
  }
  return decided_to_solve_all(std::move(plan), *models.front().table, job, resources);
}

}  // namespace lox
