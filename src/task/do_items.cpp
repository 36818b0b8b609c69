// SPDX-License-Identifier: MIT
#include "lox/task/do_items.hpp"

#include "lox/base/site.hpp"
#include "lox/base/stop.hpp"
#include "lox/base/timer.hpp"
#include "lox/plan/cost.hpp"
#include "lox/run/grid_pipeline.hpp"
#include "lox/run/local_pipeline.hpp"
#include "lox/task/resume.hpp"
#include "lox/task/session.hpp"

#include <algorithm>

namespace lox {

Counts count_items(const std::vector<Item>& items, const std::function<std::uint64_t(const Item&)>& moves) {
  Counts counts;
  for (const Item& item : items) counts.bytes += moves(item);
  counts.items = static_cast<std::int64_t>(items.size());
  return counts;
}

Counts drop_done(std::vector<Item>& items, const Checkpoint& leading, const std::vector<Record>& finished,
                 const std::function<std::uint64_t(const Item&)>& moves, int ranks) {
  const Counts all = count_items(items, moves);
  drop_finished(items, leading, finished);
  deal(items, ranks);
  const Counts left = count_items(items, moves);
  return {all.bytes - left.bytes, all.items - left.items};
}

ItemsDone do_items(const Comm& comm, const Log& log, const Plan& plan, LocalSteps& alone, GridSteps* together,
                   Journal& journal, Counts total, Counts earlier, std::uint64_t memory) {
  ItemsDone done;
  RankProgress progress(comm, log, total, earlier);
  try {
    if (together != nullptr) {
      done.records = run_on_grid(comm, *together, journal, plan.items, progress, done.counts);
      done.times = together->times();
    }
    std::vector<Item> mine;
    std::ranges::copy_if(plan.items, std::back_inserter(mine), [&](const Item& item) {
      return item.where == Where::local && item.rank == comm.rank();
    });
    LocalPipeline pipeline(alone, memory - std::min(memory, program_memory + plan.book_keeping));
    for (Record& record : pipeline.run(mine, progress, done.counts, done.times))
      done.records.push_back(std::move(record));
  } catch (const Error& error) {
    if (!is_fault_of_data(error)) throw;
    done.failure = error;
    request_stop(2);
  } catch (const Stopped&) {  // a second signal: the item in hand was dropped
  }
  const Timer finishing;
  progress.finish(done.counts);
  done.times.idle = finishing.seconds();
  return done;
}

RunTotals sum_up(const Comm& comm, const ItemsDone& done) {
  RunTotals totals;
  totals.peak_rss_bytes = static_cast<std::uint64_t>(comm.max(static_cast<double>(peak_memory())));
  totals.ranks = comm.size();
  totals.work = sum_times(comm, done.times);
  return totals;
}

}  // namespace lox
