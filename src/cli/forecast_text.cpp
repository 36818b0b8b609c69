// SPDX-License-Identifier: MIT
#include "lox/cli/forecast_text.hpp"

#include "lox/base/error.hpp"
#include "lox/base/file.hpp"
#include "lox/base/units.hpp"

#include <algorithm>

namespace lox {
namespace {

std::string bytes_text(std::uint64_t bytes) {
  return format_bytes(static_cast<double>(bytes));
}

void print_row(const char* name, const std::string& text) {
  fmt::print("{:14}{}\n", name, text);
}

std::string disk_text(const Forecast& f, const fs::path& output) {
  return fmt::format("{} needed, {} free", bytes_text(f.disk), bytes_text(free_space(output)));
}

std::string bandwidth_text(const Forecast& f) {
  if (f.bandwidth == rank_bandwidth) {
    return fmt::format("{} of files a second for each rank (--bandwidth)", format_bytes(f.bandwidth));
  }
  const double all = f.bandwidth * static_cast<double>(f.ranks.size());
  return fmt::format("{} of files a second for all ranks together", format_bytes(all));
}

void print_work(const Forecast& f, const fs::path& output) {
  double least = f.seconds;
  for (const Forecast::Rank& rank : f.ranks) least = std::min(least, rank.seconds);
  print_row("bytes",
            fmt::format("{} read, {} written", bytes_text(f.bytes_read), bytes_text(f.bytes_written)));
  if (!output.empty()) print_row("disk", disk_text(f, output));
  print_row("flops", fmt::format("{:.2e}", f.flops));
  print_row("time", fmt::format("about {} (the first rank is done after {})", format_seconds(f.seconds),
                                format_seconds(least)));
  print_row("assumed", bandwidth_text(f));
}

void print_run(const PlannedRun& run, const PlanOptions& asked, const fs::path& output) {
  const std::uint64_t memory = most_memory(run.forecast);
  const int ranks = run.resources.ranks;
  const int nodes = asked.nodes(ranks);
  const auto on_node = static_cast<std::uint64_t>(asked.on_node(ranks));
  print_row("ranks", fmt::format("{}, {} on each of {} node{}", ranks, on_node, nodes, nodes > 1 ? "s" : ""));
  std::string text = fmt::format("{} a rank needed", bytes_text(memory));
  if (run.resources.memory) text += fmt::format(", {} there", bytes_text(*run.resources.memory));
  print_row("memory", text + fmt::format("; {} a node", bytes_text(memory * on_node)));
  print_work(run.forecast, output);
}

void print_runs(const Planned& planned, const PlanOptions& asked, const fs::path& output) {
  constexpr const char* row = "{:>6}  {:>6}  {:>11}  {:>11}  {:>9}  {:>9}  {:>9}\n";
  fmt::print(row, "ranks", "nodes", "memory/rank", "memory/node", "read", "written", "time");
  const PlannedRun* last = nullptr;
  for (const PlannedRun& run : planned.runs) {
    const int ranks = run.resources.ranks;
    if (!run.refusal.empty()) {
      fmt::print("{:>6}  {:>6}  does not fit\n", ranks, asked.nodes(ranks));
      continue;
    }
    last = &run;
    const std::uint64_t memory = most_memory(run.forecast);
    fmt::print(row, ranks, asked.nodes(ranks), bytes_text(memory),
               bytes_text(memory * static_cast<std::uint64_t>(asked.on_node(ranks))),
               bytes_text(run.forecast.bytes_read), bytes_text(run.forecast.bytes_written),
               format_seconds(run.forecast.seconds));
  }
  fmt::print("\n");
  print_row("disk", disk_text(last->forecast, output));
  print_row("assumed", bandwidth_text(last->forecast));
}

}  // namespace

std::uint64_t most_memory(const Forecast& forecast) {
  std::uint64_t memory = 0;
  for (const Forecast::Rank& rank : forecast.ranks) memory = std::max(memory, rank.memory);
  return memory;
}

void print_forecast(const Forecast& f, const fs::path& output) {
  print_row("ranks", std::to_string(f.ranks.size()));
  print_row("memory", fmt::format("{} a rank needed", bytes_text(most_memory(f))));
  print_work(f, output);
}

void print_forecasts(const Planned& planned, const PlanOptions& asked, const fs::path& output) {
  if (!asked.several()) {
    print_run(planned.runs.front(), asked, output);
  } else {
    print_runs(planned, asked, output);
  }
  std::fflush(stdout);
  for (const PlannedRun& run : planned.runs) {
    if (!run.refusal.empty())
      fmt::print(stderr, "lox: {}: {}\n", count_of(run.resources.ranks, "rank"), run.refusal);
  }
}

nlohmann::ordered_json forecast_to_json(const Forecast& f, const fs::path& output,
                                        std::optional<std::uint64_t> there) {
  nlohmann::ordered_json ranks = nlohmann::ordered_json::array();
  for (const Forecast::Rank& rank : f.ranks) {
    ranks.push_back({{"memory", rank.memory},
                     {"bytes_read", rank.bytes_read},
                     {"bytes_written", rank.bytes_written},
                     {"flops", rank.flops},
                     {"seconds", rank.seconds}});
  }
  nlohmann::ordered_json all{{"ranks", f.ranks.size()}};
  if (there) all["memory_per_rank"] = *there;
  all["bandwidth_per_rank"] = f.bandwidth;
  all["totals"] = {{"bytes_read", f.bytes_read},
                   {"bytes_written", f.bytes_written},
                   {"disk", f.disk},
                   {"flops", f.flops},
                   {"seconds", f.seconds}};
  if (!output.empty()) all["totals"]["disk_free"] = free_space(output);
  all["per_rank"] = std::move(ranks);
  return all;
}

}  // namespace lox
