// SPDX-License-Identifier: MIT
#include "lox/base/buffer.hpp"
#include "lox/base/site.hpp"
#include "lox/base/units.hpp"
#include "lox/cli/forecast_text.hpp"
#include "lox/cli/job_options.hpp"
#include "lox/cli/other_plans.hpp"
#include "lox/cli/sbatch.hpp"
#include "lox/io/output.hpp"
#include "lox/plan/cost.hpp"
#include "lox/plan/forecast.hpp"
#include "lox/task/pair.hpp"

#include <cmath>
#include <map>
#include <tuple>

#include <nlohmann/json.hpp>

namespace po = boost::program_options;

namespace lox {
namespace {

struct PlannedJob {
  Checkpoint aligned;
  Plan plan;
  Forecast forecast;
  Resources resources;
};

/// Items of one kind, for people.
struct Group {
  std::int64_t count = 0;
  Cost cost;  ///< of one
};

void print_table(const PlannedJob& job) {
  // Largest first: shape, method and place make a group.
  using Key = std::tuple<double, Index, Index, Method, Where>;
  std::map<Key, Group> groups;
  CostTable costs(job.resources.ranks);
  for (const Item& item : job.plan.items) {
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
  print_forecast(job.forecast, job.resources.memory);
}

void print_json(const PlannedJob& job) {
  CostTable costs(job.resources.ranks);
  nlohmann::ordered_json items = nlohmann::ordered_json::array();
  for (const Item& item : job.plan.items) {
    const Cost cost = costs.of(item);
    nlohmann::ordered_json entry{
        {"name", job.aligned.tensors[static_cast<std::size_t>(item.matrix.tensor(aligned_model))].name},
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
  nlohmann::ordered_json all = forecast_to_json(job.forecast, job.resources.memory);
  all["items"] = std::move(items);
  fmt::print("{}\n", all.dump(1));
}

/// Commands ready to submit: twice the predicted time, a fifth more memory than needed.
void print_sbatch(const PlannedJob& planned, const Options& options, const po::variables_map& values,
                  int ranks_per_node, int cpus) {
  std::uint64_t memory = 0;
  for (const Forecast::Rank& rank : planned.forecast.ranks) memory = std::max(memory, rank.memory);
  const int ranks = planned.resources.ranks;
  const int nodes = (ranks - 1) / ranks_per_node + 1;
  const int on_node = (ranks - 1) / nodes + 1;
  BatchNeeds needs{.nodes = nodes, .ranks = ranks, .ranks_per_node = on_node, .cpus_per_rank = cpus};
  needs.gibibytes =
      static_cast<std::uint64_t>(std::ceil(1.2 * static_cast<double>(memory) * on_node / (1 << 30)));
  needs.minutes = static_cast<long>(2 * planned.forecast.seconds / 60) + 10;
  const std::string job_file = values.contains("config") ? values["config"].as<std::string>() : "";
  fmt::print("{}", sbatch_commands(needs, options, job_file));
}

}  // namespace

ExitCode run_plan(const Arguments& arguments) {
  keep_freed_memory();  // tables of many tensors are made of many small pieces
  if (const auto other = plan_of_other_task(arguments)) return *other;
  Options options("plan", "--base B --aligned A --output O [options]",
                  "Shows what harden would do with the same options, from headers only: which\n"
                  "matrices one rank solves and which all of them together, memory, bytes, disk\n"
                  "and time. Refuses what harden would refuse. 'lox plan convert', 'lox plan\n"
                  "verify' and 'lox plan synth' tell what these commands would cost.",
                  "  lox plan --base base --aligned aligned --output hardened --ranks 32");
  JobOptions job_options;
  job_options.add_to(options);
  int ranks = 1;
  bool json = false;
  bool sbatch = false;
  int ranks_per_node = 4;
  int cpus = 8;
  options.add({.name = "ranks", .value = "N", .brief = "to plan for"}, ranks);
  options.add({.name = "json", .brief = "for programs"}, json);
  options.add({.name = "sbatch", .brief = "print the commands that submit this job"}, sbatch);
  options.add({.name = "ranks-per-node", .value = "N", .brief = "at most, for --sbatch"}, ranks_per_node);
  options.add({.name = "cpus-per-rank", .value = "N", .brief = "for --sbatch"}, cpus);
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  job_options.finish();
  if (ranks_per_node < 1 || cpus < 1)
    fail(ExitCode::usage, "--ranks-per-node and --cpus-per-rank must be positive");
  if (ranks < 1) fail(ExitCode::usage, "--ranks {} is not a number of ranks", ranks);
  const Job& job = job_options.job;
  PlannedJob planned;
  planned.resources = {ranks,
                       job.run.memory ? *job.run.memory : memory_share(std::min(ranks, ranks_per_node))};
  Pair pair = open_pair(job, Log(Log::Level::silent));
  planned.plan = make_plan(pair.base, pair.aligned, job, planned.resources, pair.made_by());
  planned.aligned = std::move(pair.aligned);
  planned.forecast = forecast(planned.plan, planned.aligned, ranks);
  if (sbatch) {
    check_space(job.output, planned.forecast.disk);  // or the commands would be run
    print_sbatch(planned, options, values, ranks_per_node, cpus);
  } else {
    json ? print_json(planned) : print_table(planned);
  }
  std::fflush(stdout);
  check_space(job.output, planned.forecast.disk);
  return ExitCode::done;
}

}  // namespace lox
