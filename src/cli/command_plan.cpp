// SPDX-License-Identifier: MIT
#include "lox/base/units.hpp"
#include "lox/cli/job_options.hpp"
#include "lox/cli/sbatch.hpp"
#include "lox/io/checkpoint.hpp"
#include "lox/plan/cost.hpp"
#include "lox/plan/forecast.hpp"
#include "lox/plan/memory.hpp"

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

std::string shape_of(const WorkItem& item) {
  return item.action == Action::copy ? "-" : fmt::format("{} x {}", item.rows, item.cols);
}

std::string method_of(const WorkItem& item) {
  return item.action == Action::copy ? "copy" : std::string(method_name(item.method));
}

void print_table(const PlannedJob& job) {
  // Largest first: shape, method and place make a group.
  std::map<std::tuple<double, std::string, std::string, std::string>, Group> groups;
  for (const WorkItem& item : job.plan.items) {
    const Cost cost = item.where == Where::grid ? grid_cost(item, job.resources.ranks) : local_cost(item);
    const double order = item.action == Action::copy ? 0 : -cost.flops;
    Group& group = groups[{order, shape_of(item), method_of(item), std::string(where_name(item.where))}];
    ++group.count;
    group.cost.memory = std::max(group.cost.memory, cost.memory);
    group.cost.seconds = std::max(group.cost.seconds, cost.seconds);
    group.cost.flops = std::max(group.cost.flops, cost.flops);
  }
  fmt::print("{:>8}  {:18}  {:7}  {:6}  {:>12}  {:>10}\n", "count", "shape", "method", "where", "memory/rank",
             "time each");
  for (const auto& [key, group] : groups) {
    fmt::print("{:8}  {:18}  {:7}  {:6}  {:>12}  {:>10}\n", group.count, std::get<1>(key), std::get<2>(key),
               std::get<3>(key), format_bytes(static_cast<double>(group.cost.memory + program_memory)),
               format_seconds(group.cost.seconds));
  }
  const Forecast& f = job.forecast;
  std::uint64_t memory = 0;
  double least = f.seconds;
  for (const Forecast::Rank& rank : f.ranks) {
    memory = std::max(memory, rank.memory);
    least = std::min(least, rank.seconds);
  }
  fmt::print("\n{:14}{}\n", "ranks", job.resources.ranks);
  fmt::print("{:14}{} a rank needed, {} there\n", "memory", format_bytes(static_cast<double>(memory)),
             format_bytes(static_cast<double>(job.resources.memory)));
  fmt::print("{:14}{} read, {} written\n", "bytes", format_bytes(static_cast<double>(f.bytes_read)),
             format_bytes(static_cast<double>(f.bytes_written)));
  fmt::print("{:14}{}\n", "disk", format_bytes(static_cast<double>(f.disk)));
  fmt::print("{:14}{:.2e}\n", "flops", f.flops);
  fmt::print("{:14}about {} (the first rank is done after {})\n", "time", format_seconds(f.seconds),
             format_seconds(least));
}

void print_json(const PlannedJob& job) {
  nlohmann::ordered_json items = nlohmann::ordered_json::array();
  for (const WorkItem& item : job.plan.items) {
    const Cost cost = item.where == Where::grid ? grid_cost(item, job.resources.ranks) : local_cost(item);
    nlohmann::ordered_json entry{{"name", job.aligned.tensors[static_cast<std::size_t>(item.tensor)].name},
                                 {"matrix", item.matrix},
                                 {"action", action_name(item.action)},
                                 {"where", where_name(item.where)},
                                 {"memory", cost.memory + program_memory},
                                 {"flops", cost.flops},
                                 {"bytes_read", cost.bytes_read},
                                 {"bytes_written", cost.bytes_written},
                                 {"seconds", cost.seconds}};
    if (item.action == Action::edit) {
      entry["rows"] = item.rows;
      entry["cols"] = item.cols;
      entry["method"] = method_name(item.method);
    }
    if (item.where == Where::local) entry["rank"] = item.rank;
    items.push_back(std::move(entry));
  }
  nlohmann::ordered_json ranks = nlohmann::ordered_json::array();
  for (const Forecast::Rank& rank : job.forecast.ranks) {
    ranks.push_back({{"memory", rank.memory},
                     {"bytes_read", rank.bytes_read},
                     {"bytes_written", rank.bytes_written},
                     {"flops", rank.flops},
                     {"seconds", rank.seconds}});
  }
  const nlohmann::ordered_json all{{"ranks", job.resources.ranks},
                                   {"memory_per_rank", job.resources.memory},
                                   {"totals",
                                    {{"bytes_read", job.forecast.bytes_read},
                                     {"bytes_written", job.forecast.bytes_written},
                                     {"disk", job.forecast.disk},
                                     {"flops", job.forecast.flops},
                                     {"seconds", job.forecast.seconds}}},
                                   {"per_rank", std::move(ranks)},
                                   {"items", std::move(items)}};
  fmt::print("{}\n", all.dump(1));
}

/// Commands ready to submit: twice the predicted time, a fifth more memory than needed.
void print_sbatch(const PlannedJob& planned, const Options& options, const po::variables_map& values,
                  int ranks_per_node, int cpus) {
  std::uint64_t memory = 0;
  for (const Forecast::Rank& rank : planned.forecast.ranks) memory = std::max(memory, rank.memory);
  const int nodes = (planned.resources.ranks - 1) / ranks_per_node + 1;
  const int on_node = (planned.resources.ranks - 1) / nodes + 1;
  BatchNeeds needs{.nodes = nodes, .ranks_per_node = on_node, .cpus_per_rank = cpus};
  needs.gibibytes =
      static_cast<std::uint64_t>(std::ceil(1.2 * static_cast<double>(memory) * on_node / (1 << 30)));
  needs.minutes = static_cast<long>(2 * planned.forecast.seconds / 60) + 10;
  const std::string job_file = values.contains("config") ? values["config"].as<std::string>() : "";
  fmt::print("{}", sbatch_commands(needs, options, job_file));
}

}  // namespace

ExitCode run_plan(const Arguments& arguments) {
  Options options("plan", "--base B --aligned A --output O [options]",
                  "Shows what harden would do with the same options, from headers only: which\n"
                  "matrices one rank solves and which all of them together, memory, bytes, disk\n"
                  "and time. Refuses what harden would refuse.",
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
  planned.resources = {ranks, job.memory != 0 ? job.memory : available_memory(ranks)};
  const Checkpoint base = open_checkpoint(job.base);
  planned.aligned = open_checkpoint(job.aligned);
  refuse_quantised(base);
  refuse_quantised(planned.aligned);
  std::erase_if(planned.aligned.carried,
                [](const CarriedFile& file) { return is_foreign_weights(file.name); });
  planned.plan = make_plan(base, planned.aligned, job, planned.resources);
  planned.forecast = forecast(planned.plan, planned.aligned, ranks);
  if (sbatch) {
    print_sbatch(planned, options, values, ranks_per_node, cpus);
  } else {
    json ? print_json(planned) : print_table(planned);
  }
  std::fflush(stdout);
  check_space(job.output, planned.forecast.disk);
  return ExitCode::done;
}

}  // namespace lox
