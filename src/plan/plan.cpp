// SPDX-License-Identifier: MIT
#include "lox/plan/plan.hpp"

#include "lox/base/error.hpp"
#include "lox/base/units.hpp"
#include "lox/io/storage.hpp"
#include "lox/linalg/dist_svd.hpp"
#include "lox/plan/cost.hpp"

#include <algorithm>
#include <functional>
#include <queue>
#include <regex>
#include <string>
#include <unordered_map>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

/// The tensor of the other model with the same name, or a sentence about what is missing.
std::vector<int> pair_tensors(const Checkpoint& base, const Checkpoint& aligned) {
  std::unordered_map<std::string, int> by_name;
  for (std::size_t i = 0; i < base.tensors.size(); ++i)
    by_name.emplace(base.tensors[i].name, static_cast<int>(i));
  std::vector<int> base_of;
  for (const TensorInfo& tensor : aligned.tensors) {
    const auto found = by_name.find(tensor.name);
    if (found == by_name.end()) {
      fail(ExitCode::bad_input,
           "{}: tensor '{}' is not in the base model {}; both must be checkpoints of one model", aligned.path,
           tensor.name, base.path);
    }
    base_of.push_back(found->second);
    by_name.erase(found);
  }
  if (!by_name.empty()) {
    // The first in the base's order, so that the message does not depend on hashing.
    const auto missing = std::min_element(by_name.begin(), by_name.end(),
                                          [](const auto& x, const auto& y) { return x.second < y.second; });
    fail(ExitCode::bad_input,
         "{}: tensor '{}' is not in the aligned model {}; both must be checkpoints of one model", base.path,
         missing->first, aligned.path);
  }
  return base_of;
}

void check_pair(const Checkpoint& aligned, const TensorInfo& ours, const Checkpoint& base,
                const TensorInfo& theirs) {
  const std::string where = aligned.path.string();
  const std::string name = ours.name;
  if (ours.shape != theirs.shape) {
    const bool more_rows = ours.shape.size() == theirs.shape.size() && !ours.shape.empty() &&
                           ours.shape.front() != theirs.shape.front() &&
                           std::equal(ours.shape.begin() + 1, ours.shape.end(), theirs.shape.begin() + 1);
    fail(ExitCode::bad_input, "{}: tensor '{}' has shape {}, but {} in the base model {}{}", where, name,
         shape_text(ours.shape), shape_text(theirs.shape), base.path,
         more_rows ? " (was the vocabulary extended? resize the base model's embeddings the same way first)"
                   : "");
  }
  if (ours.dtype != theirs.dtype && !(is_editable(ours.dtype) && is_editable(theirs.dtype))) {
    fail(ExitCode::bad_input, "{}: tensor '{}' has dtype {}, but {} in the base model {}", where, name,
         dtype_name(ours.dtype), dtype_name(theirs.dtype), base.path);
  }
}

/// Which tensors the user's patterns leave to edit.
class Selection {
 public:
  explicit Selection(const Job& job) {
    for (const std::string& pattern : job.include) include_.emplace_back(pattern);
    for (const std::string& pattern : job.exclude) exclude_.emplace_back(pattern);
  }
  bool takes(const std::string& name) const {
    const auto matches = [&](const std::regex& regex) { return std::regex_search(name, regex); };
    const bool included = include_.empty() || std::any_of(include_.begin(), include_.end(), matches);
    return included && std::none_of(exclude_.begin(), exclude_.end(), matches);
  }

 private:
  std::vector<std::regex> include_;
  std::vector<std::regex> exclude_;
};

bool is_matrix(const TensorInfo& tensor) {
  return tensor.shape.size() >= 2 && tensor.elements() > 0;
}

}  // namespace

std::string_view action_name(Action action) {
  return action == Action::copy ? "copied" : "edited";
}
std::string_view where_name(Where where) {
  return where == Where::local ? "local" : "grid";
}

Method method_for(const WorkItem& item) {
  if (item.k == 0 || item.k >= std::min(item.rows, item.cols)) return Method::full;  // Delta_k = Delta
  const bool exact = item.where == Where::grid ? prefers_exact_on_grid(item.rows, item.cols)
                                               : prefers_exact(item.rows, item.cols, item.k);
  return exact ? Method::exact : item.svd;
}

double deal(std::vector<WorkItem>& items, int ranks) {
  using Load = std::pair<double, int>;  // seconds, rank: equal loads go to the lower rank
  std::priority_queue<Load, std::vector<Load>, std::greater<>> loads;
  for (int rank = 0; rank < ranks; ++rank) loads.emplace(0.0, rank);
  double longest = 0;
  for (WorkItem& item : items) {
    if (item.where == Where::grid) continue;
    auto [load, rank] = loads.top();
    loads.pop();
    item.rank = rank;
    load += item.seconds + (load == 0 ? item.first_read : 0);
    loads.emplace(load, rank);
    longest = std::max(longest, load);
  }
  return longest;
}

void choose_grid_items(std::vector<WorkItem>& items, GridUse use, const Resources& resources) {
  const auto send = [&](WorkItem& item) {
    item.where = Where::grid;
    item.method = method_for(item);
    item.seconds = grid_cost(item, resources.ranks).seconds;
  };
  const auto fits_alone = [&](const WorkItem& item) {
    return resources.memory == 0 || local_cost(item).memory + program_memory <= resources.memory;
  };
  if (use == GridUse::never) return;
  for (WorkItem& item : items) {
    if (item.action != Action::edit) continue;
    if (use == GridUse::always || (!fits_alone(item) && resources.ranks > 1)) send(item);
  }
  if (use == GridUse::always || resources.ranks == 1) return;
  constexpr std::size_t at_most = 64;
  double best = deal(items, resources.ranks) * 0.95;
  double on_grid = 0;
  std::vector<WorkItem> trial = items;
  std::vector<WorkItem> chosen = items;
  std::size_t tried = 0;
  for (WorkItem& item : trial) {
    if (item.action == Action::copy || item.where == Where::grid) continue;
    if (++tried > at_most) break;
    send(item);
    on_grid += item.seconds;
    const double total = on_grid + deal(trial, resources.ranks);
    if (total < best) {
      best = total;
      chosen = trial;
    }
  }
  items = std::move(chosen);
}

namespace {

WorkItem make_item(const TensorInfo& tensor, const TensorInfo& partner, int index, const Job& job,
                   bool edit) {
  WorkItem item;
  item.tensor = index;
  item.bytes = tensor.extent.bytes;
  if (edit) {
    item.action = Action::edit;
    item.rows = tensor.shape[tensor.shape.size() - 2];
    item.cols = tensor.shape.back();
    item.dtype = tensor.dtype;
    item.base_dtype = partner.dtype;
    item.bytes = static_cast<std::uint64_t>(item.rows * item.cols) * element_bytes(tensor.dtype);
    item.k = job.k;
    item.svd = job.svd;
    item.proof = job.proof;
    item.method = method_for(item);
  }
  const Cost cost = local_cost(item);
  item.seconds = cost.seconds;
  item.first_read = cost.first_read;
  return item;
}

void refuse_what_does_not_fit(const Checkpoint& aligned, const Plan& plan, const Job& job,
                              const Resources& resources) {
  if (resources.memory == 0) return;
  for (const WorkItem& item : plan.items) {
    const bool grid = item.where == Where::grid;
    const std::uint64_t needed =
        program_memory + (grid ? grid_cost(item, resources.ranks) : local_cost(item)).memory;
    if (needed <= resources.memory) continue;
    const char* const help = !grid && job.grid == GridUse::never && resources.ranks > 1
                                 ? "let the ranks share it (--grid auto), or give each rank more (--memory)"
                                 : "use more ranks, on more nodes, or give each rank more (--memory)";
    fail(ExitCode::bad_input, "tensor '{}' needs {} a rank {}, but a rank has {}; {}",
         aligned.tensors[static_cast<std::size_t>(item.tensor)].name,
         format_bytes(static_cast<double>(needed)),
         grid ? fmt::format("on a grid of {} ranks", resources.ranks) : "on one rank",
         format_bytes(static_cast<double>(resources.memory)), help);
  }
}

}  // namespace

Plan make_plan(const Checkpoint& base, const Checkpoint& aligned, const Job& job,
               const Resources& resources) {
  Plan plan;
  plan.base_of = pair_tensors(base, aligned);
  const Selection selection(job);
  std::int64_t edited = 0;
  for (std::size_t t = 0; t < aligned.tensors.size(); ++t) {
    const TensorInfo& tensor = aligned.tensors[t];
    const TensorInfo& partner = base.tensors[static_cast<std::size_t>(plan.base_of[t])];
    check_pair(aligned, tensor, base, partner);
    const bool edit = is_editable(tensor.dtype) && is_matrix(tensor) && selection.takes(tensor.name);
    WorkItem item = make_item(tensor, partner, static_cast<int>(t), job, edit);
    const std::int64_t matrices = edit ? tensor.elements() / (item.rows * item.cols) : 1;
    for (item.matrix = 0; item.matrix < matrices; ++item.matrix) plan.items.push_back(item);
    edited += edit ? 1 : 0;
  }
  if (edited == 0) {
    fail(ExitCode::bad_input, "{}: no tensor is left to edit{}", aligned.path,
         job.include.empty() && job.exclude.empty()
             ? "; lox edits floating tensors of two or more dimensions"
             : "; look at --include and --exclude, or list the names with 'lox inspect'");
  }
  std::stable_sort(plan.items.begin(), plan.items.end(),
                   [](const WorkItem& x, const WorkItem& y) { return x.seconds > y.seconds; });
  choose_grid_items(plan.items, job.grid, resources);
  std::stable_partition(plan.items.begin(), plan.items.end(),
                        [](const WorkItem& item) { return item.where == Where::grid; });
  deal(plan.items, resources.ranks);
  refuse_what_does_not_fit(aligned, plan, job, resources);
  return plan;
}

void refuse_quantised(const Checkpoint& model) {
  for (const TensorInfo& tensor : model.tensors) {
    if (is_low_precision_float(tensor.dtype) && is_matrix(tensor)) {
      fail(ExitCode::bad_input,
           "{}: tensor '{}' is {}, a quantised weight that means nothing without its scales; convert the "
           "model to BF16 "
           "first",
           model.path, tensor.name, dtype_name(tensor.dtype));
    }
  }
  const auto config = std::find_if(model.other_files.begin(), model.other_files.end(),
                                   [](const OtherFile& file) { return file.name == "config.json"; });
  if (config == model.other_files.end() || config->extent.bytes > (std::uint64_t{16} << 20)) return;
  std::string text(config->extent.bytes, '\0');
  FileStorage storage(model, FileStorage::Access::read);
  storage.read(config->extent, 0, std::as_writable_bytes(std::span(text)));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_object() && json.contains("quantization_config") && !json["quantization_config"].is_null()) {
    fail(ExitCode::bad_input,
         "{}: config.json has a quantization_config: the weights are quantised, and editing them without "
         "their scales "
         "would be wrong; convert the model to BF16 first",
         model.path);
  }
}

}  // namespace lox
