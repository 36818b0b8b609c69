// SPDX-License-Identifier: MIT
#include "lox/cli/forecast_text.hpp"

#include "lox/base/error.hpp"
#include "lox/base/units.hpp"

#include <algorithm>

namespace lox {
namespace {

std::string bytes_text(std::uint64_t bytes) {
  return format_bytes(static_cast<double>(bytes));
}

}  // namespace

void print_forecast(const Forecast& f, std::optional<std::uint64_t> there) {
  std::uint64_t memory = 0;
  double least = f.seconds;
  for (const Forecast::Rank& rank : f.ranks) {
    memory = std::max(memory, rank.memory);
    least = std::min(least, rank.seconds);
  }
  fmt::print("{:14}{}\n", "ranks", f.ranks.size());
  fmt::print("{:14}{} a rank needed{}\n", "memory", bytes_text(memory),
             there ? ", " + bytes_text(*there) + " there" : "");
  fmt::print("{:14}{} read, {} written\n", "bytes", bytes_text(f.bytes_read), bytes_text(f.bytes_written));
  fmt::print("{:14}{}\n", "disk", bytes_text(f.disk));
  fmt::print("{:14}{:.2e}\n", "flops", f.flops);
  fmt::print("{:14}about {} (the first rank is done after {})\n", "time", format_seconds(f.seconds),
             format_seconds(least));
}

nlohmann::ordered_json forecast_to_json(const Forecast& f, std::optional<std::uint64_t> there) {
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
  all["totals"] = {{"bytes_read", f.bytes_read},
                   {"bytes_written", f.bytes_written},
                   {"disk", f.disk},
                   {"flops", f.flops},
                   {"seconds", f.seconds}};
  all["per_rank"] = std::move(ranks);
  return all;
}

}  // namespace lox
