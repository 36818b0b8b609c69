// SPDX-License-Identifier: MIT
#include "lox/cli/tell_planned.hpp"

#include "lox/base/units.hpp"
#include "lox/cli/forecast_text.hpp"
#include "lox/cli/sbatch.hpp"

#include <cmath>
#include <map>
#include <tuple>

namespace po = boost::program_options;

namespace lox {
namespace {

/// Items of one kind, for people.
struct Group {
  std::int64_t count = 0;
  Cost cost;  ///< of one
};

void print_items(const PlannedRun& run) {
  // Largest first: shape, method and place make a group.
  using Key = std::tuple<double, Index, Index, Method, Where>;
  std::map<Key, Group> groups;
  CostTable costs(run.resources.ranks, run.forecast.bandwidth);
  for (const Item& item : run.plan.items) {
    const Cost cost = costs.of(item);
    const bool copied = item.action == Action::copy;
    Group& group =
        groups[{copied ? 0 : -cost.flops, item.matrix.rows, item.matrix.cols, item.method, item.where}];
    ++group.count;
    group.cost.memory = std::max(group.cost.memory, cost.memory);
    group.cost.seconds = std::max(group.cost.seconds, cost.seconds);
  }
  fmt::print("{:>8}  {:18}  {:7}  {:6}  {:>12}  {:>10}\n", "count", "shape", "method", "where", "memory/rank",
             "time each");
  for (const auto& [key, group] : groups) {
    const auto& [order, rows, cols, method, where] = key;
    fmt::print("{:8}  {:18}  {:7}  {:6}  {:>12}  {:>10}\n", group.count,
               rows == 0 ? "-" : fmt::format("{} x {}", rows, cols), rows == 0 ? "copy" : method_name(method),
               where_name(where), format_bytes(static_cast<double>(group.cost.memory + program_memory)),
               format_seconds(group.cost.seconds));
  }
  fmt::print("\n");
}

nlohmann::ordered_json items_to_json(const Checkpoint& aligned, const PlannedRun& run) {
  CostTable costs(run.resources.ranks, run.forecast.bandwidth);
  nlohmann::ordered_json items = nlohmann::ordered_json::array();
  for (const Item& item : run.plan.items) {
    const Cost cost = costs.of(item);
    nlohmann::ordered_json entry{
        {"name", aligned.tensors[static_cast<std::size_t>(item.matrix.tensor(aligned_model))].name},
        {"matrix", item.matrix.number},
        {"action", action_name(item.action)},
        {"where", where_name(item.where)},
        {"memory", cost.memory + program_memory},
        {"flops", cost.flops},
        {"bytes_read", cost.bytes_read},
        {"bytes_written", cost.bytes_written},
        {"seconds", cost.seconds}};
    if (item.action == Action::edit) {
      entry["rows"] = item.matrix.rows;
      entry["cols"] = item.matrix.cols;
      entry["method"] = method_name(item.method);
    }
    if (item.where == Where::local) entry["rank"] = item.rank;
    items.push_back(std::move(entry));
  }
  return items;
}

/// One object; of several numbers of ranks, a list of them.
void print_json(const Planned& planned, const fs::path& output, bool items) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const PlannedRun& run : planned.runs) {
    nlohmann::ordered_json one;
    if (run.refusal.empty()) {
      one = forecast_to_json(run.forecast, output, run.resources.memory);
      if (items) one["items"] = items_to_json(planned.aligned, run);
    } else {
      one = {{"ranks", run.resources.ranks}, {"refusal", run.refusal}};
    }
    all.push_back(std::move(one));
  }
  fmt::print("{}\n", (all.size() == 1 ? all.front() : all).dump(1));
}

/// Commands ready to submit: twice the predicted time, a fifth more memory than needed.
void print_sbatch(const PlannedRun& run, const PlanOptions& asked, const Options& options,
                  const po::variables_map& values) {
  const int ranks = run.resources.ranks;
  const int on_node = asked.on_node(ranks);
  BatchNeeds needs{
      .nodes = asked.nodes(ranks), .ranks = ranks, .ranks_per_node = on_node, .cpus_per_rank = asked.cpus()};
  const auto memory = static_cast<double>(most_memory(run.forecast));
  needs.gibibytes = static_cast<std::uint64_t>(std::ceil(1.2 * memory * on_node / (1 << 30)));
  needs.minutes = static_cast<long>(2 * run.forecast.seconds / 60) + 10;
  const std::string job_file = values.contains("config") ? values["config"].as<std::string>() : "";
  fmt::print("{}", sbatch_commands(needs, options, job_file));
}

void print_state(Output::State state) {
  if (state == Output::State::resumed) {
    fmt::print("{:14}unfinished; the job goes on with it\n", "output");
  } else if (state == Output::State::published) {
    fmt::print("{:14}finished already; the job has nothing to do\n", "output");
  }
}

}  // namespace

ExitCode tell_planned(const Planned& planned, const PlanOptions& asked, const Options& options,
                      const po::variables_map& values, const fs::path& output, bool items) {
  if (asked.sbatch()) {
    check_space(planned.rooms);  // or the commands would be run
    print_sbatch(planned.runs.front(), asked, options, values);
  } else if (asked.json()) {
    print_json(planned, output, items);
  } else {
    if (items && !asked.several()) print_items(planned.runs.front());
    print_forecasts(planned, asked, output);
    print_state(planned.state);
  }
  std::fflush(stdout);
  check_space(planned.rooms);
  return ExitCode::done;
}

}  // namespace lox
