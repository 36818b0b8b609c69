// SPDX-License-Identifier: MIT
#include "lox/plan/forecast.hpp"

#include <algorithm>
#include <vector>

namespace lox {

namespace {

void add(Forecast::Rank& rank, const Cost& cost) {
  rank.memory = std::max(rank.memory, program_memory + cost.memory);
  rank.bytes_read += cost.bytes_read;
  rank.bytes_written += cost.bytes_written;
  rank.flops += cost.flops;
  rank.seconds += cost.seconds;
}

/// Sums over ranks, and the time when the last one has finished.
Forecast sum_up(std::vector<Forecast::Rank> ranks, double bandwidth) {
  Forecast all;
  all.bandwidth = bandwidth;
  all.ranks = std::move(ranks);
  for (const Forecast::Rank& rank : all.ranks) {
    all.bytes_read += rank.bytes_read;
    all.bytes_written += rank.bytes_written;
    all.flops += rank.flops;
    all.seconds = std::max(all.seconds, rank.seconds);
  }
  return all;
}

/// An even share of bytes for each rank.
void add_bytes(std::vector<Forecast::Rank>& ranks, std::uint64_t read, std::uint64_t written,
               double bandwidth) {
  constexpr std::uint64_t buffers = std::uint64_t{64} << 20;
  const std::uint64_t count = ranks.size();
  for (Forecast::Rank& rank : ranks) {
    Cost cost;
    cost.memory = buffers;
    cost.bytes_read = (read + count - 1) / count;
    cost.bytes_written = (written + count - 1) / count;
    cost.seconds = file_seconds(static_cast<double>(cost.bytes_read + cost.bytes_written), bandwidth);
    add(rank, cost);
  }
}

}  // namespace

Forecast forecast(const Plan& plan, const Checkpoint& aligned, int ranks, double bandwidth) {
  std::vector<Forecast::Rank> each(static_cast<std::size_t>(ranks));
  std::vector<bool> begun(each.size());
  CostTable costs(ranks, bandwidth);
  for (const Item& item : plan.items) {
    const Cost cost = costs.of(item);
    if (item.where == Where::local) {
      const auto rank = static_cast<std::size_t>(item.rank);
      add(each[rank], cost);
      if (!begun[rank]) each[rank].seconds += cost.first_read;
      begun[rank] = true;
      continue;
    }
    for (Forecast::Rank& rank : each) add(rank, cost);
  }
  for (Forecast::Rank& rank : each) rank.memory += plan.book_keeping;
  Forecast all = sum_up(std::move(each), bandwidth);
  all.disk = aligned.bytes_with_files();
  return all;
}

Forecast forecast_copy(std::uint64_t read, std::uint64_t written, int ranks, double bandwidth) {
  std::vector<Forecast::Rank> each(static_cast<std::size_t>(ranks));
  add_bytes(each, read, written, bandwidth);
  Forecast all = sum_up(std::move(each), bandwidth);
  all.disk = written;
  return all;
}

Forecast forecast_check(const std::vector<Item>& checked, std::uint64_t compared, int ranks,
                        double bandwidth) {
  std::vector<Forecast::Rank> each(static_cast<std::size_t>(ranks));
  for (std::size_t i = 0; i < checked.size(); ++i) add(each[i % each.size()], check_cost(checked[i]));
  add_bytes(each, 2 * compared, 0, bandwidth);
  return sum_up(std::move(each), bandwidth);
}

}  // namespace lox
