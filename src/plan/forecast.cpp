// SPDX-License-Identifier: MIT
#include "lox/plan/forecast.hpp"

#include "lox/base/error.hpp"
#include "lox/base/units.hpp"
#include "lox/plan/cost.hpp"

#include <algorithm>
#include <vector>

namespace lox {

Forecast forecast(const Plan& plan, const Checkpoint& aligned, int ranks) {
  Forecast all;
  all.ranks.resize(static_cast<std::size_t>(ranks));
  std::vector<bool> begun(static_cast<std::size_t>(ranks));
  const auto add = [](Forecast::Rank& rank, const Cost& cost) {
    rank.memory = std::max(rank.memory, program_memory + cost.memory);
    rank.bytes_read += cost.bytes_read;
    rank.bytes_written += cost.bytes_written;
    rank.flops += cost.flops;
    rank.seconds += cost.seconds;
  };
  for (const WorkItem& item : plan.items) {
    if (item.where == Where::local) {
      const auto rank = static_cast<std::size_t>(item.rank);
      const Cost cost = local_cost(item);
      add(all.ranks[rank], cost);
      if (!begun[rank]) all.ranks[rank].seconds += cost.first_read;
      begun[rank] = true;
      continue;
    }
    for (Forecast::Rank& rank : all.ranks) add(rank, grid_cost(item, ranks));
  }
  for (const Forecast::Rank& rank : all.ranks) {
    all.bytes_read += rank.bytes_read;
    all.bytes_written += rank.bytes_written;
    all.flops += rank.flops;
    all.seconds = std::max(all.seconds, rank.seconds);
  }
  all.disk = aligned.bytes();
  for (const OtherFile& file : aligned.other_files) all.disk += file.extent.bytes;
  return all;
}

void check_space(const fs::path& output, std::uint64_t bytes) {
  const std::uint64_t room = free_space(output);
  // Headers, the journal and the report come on top.
  const std::uint64_t needed = bytes + (std::uint64_t{16} << 20);
  if (needed > room) {
    fail(ExitCode::io,
         "{}: the output needs {}, but its file system has {} free; free some, or choose another --output",
         output, format_bytes(static_cast<double>(needed)), format_bytes(static_cast<double>(room)));
  }
}

}  // namespace lox
