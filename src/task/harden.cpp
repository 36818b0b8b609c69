// SPDX-License-Identifier: MIT
#include "lox/task/harden.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"
#include "lox/base/site.hpp"
#include "lox/base/stop.hpp"
#include "lox/base/timer.hpp"
#include "lox/io/identity.hpp"
#include "lox/io/output.hpp"
#include "lox/plan/cost.hpp"
#include "lox/plan/forecast.hpp"
#include "lox/report/json.hpp"
#include "lox/report/text.hpp"
#include "lox/run/edit_steps.hpp"
#include "lox/run/grid_pipeline.hpp"
#include "lox/run/local_pipeline.hpp"
#include "lox/task/job_identity.hpp"
#include "lox/task/pair.hpp"
#include "lox/task/report_place.hpp"
#include "lox/task/resume.hpp"
#include "lox/task/session.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

/// All that is decided before the first matrix is read; on every rank.
struct Prepared {
  Job job;
  Resources resources;
  Pair pair;
  Checkpoint table;                ///< of the output; tensors in the order of the aligned model
  std::optional<Output> output;    ///< on rank 0
  std::optional<OutputLock> lock;  ///< on the others
  int run = 1;                     ///< of this output
  nlohmann::json identity;         ///< on rank 0
  std::vector<Record> finished;    ///< by earlier runs
  Plan plan;                       ///< without the finished items
  Counts total;
  Counts earlier;
};

/// What the ranks did.
struct Worked {
  std::vector<Record> records;
  Counts counts;
  WorkTimes times;
};

/// Better now than after hours.
void check_report_folder(const fs::path& report) {
  const fs::path folder = normal_path(report).parent_path();
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    fail(ExitCode::bad_input, "{}: the report cannot be written there: {}", report, std::strerror(errno));
  }
}

Counts count(const std::vector<Item>& items) {
  Counts counts;
  for (const Item& item : items) counts.bytes += bytes_moved(item);
  counts.items = static_cast<std::int64_t>(items.size());
  return counts;
}

/// An output that got its name by somebody's hand may lack matrices.
void check_all_finished(const Prepared& prepared) {
  std::vector<Item> left = prepared.plan.items;
  drop_finished(left, prepared.pair.aligned, Journal::load(prepared.output->paths().journal));
  if (left.empty()) return;
  fail(ExitCode::bad_input,
       "{}: was given its name before it was finished; rename it to {} and run this again",
       prepared.output->paths().output, prepared.output->paths().partial);
}

/// Opens the output, on rank 0. False if it was finished already.
bool open_output(const Comm& comm, Prepared& prepared, const Log& log) {
  const Job& job = prepared.job;
  bool published = false;
  on_root(comm, [&] {
    const OutputPaths paths(job.output);
    if (!is_there(paths.partial)) {
      check_space(job.output, forecast(prepared.plan, prepared.pair.aligned, comm.size()).disk);
    }
    prepared.identity = identity_of_job("harden", job_parameters(job),
                                        {{"base", &prepared.pair.base}, {"aligned", &prepared.pair.aligned}});
    check_report(report_path(job), paths, {job.base, job.aligned});
    prepared.output =
        Output::open(job.output, {job.overwrite, {job.base, job.aligned}}, prepared.pair.aligned,
                     prepared.identity, {{"items", prepared.plan.items.size()}});
    try {
      check_report_folder(report_path(job));
    } catch (...) {
      if (prepared.output->state() == Output::State::fresh) prepared.output->discard();
      throw;
    }
    published = prepared.output->state() == Output::State::published;
    if (published) {
      check_all_finished(prepared);
      remove_half_written(report_path(job));
      prepared.output->close();
      log.info("{} was finished already", job.output);
      return;
    }
    prepared.table = prepared.output->table();
    if (prepared.output->state() == Output::State::resumed) {
      prepared.finished = Journal::load(prepared.output->paths().journal);
    }
    prepared.run = Journal::next_run(prepared.output->paths().journal);
  });
  if (comm.sum(std::int64_t{published ? 1 : 0}) > 0) return false;
  prepared.lock = Output::join(comm, job.output, prepared.output ? &*prepared.output : nullptr);
  prepared.run = std::stoi(comm.broadcast(std::to_string(prepared.run)));
  return true;
}

/// Reads the headers, decides what is to be done, opens the output and looks at what is finished of it.
/// Nothing if all of it was. Collective.
std::optional<Prepared> prepare(const Comm& comm, const Job& asked, const Log& log) {
  Prepared prepared;
  prepared.job = with_drawn_seed(comm, asked);
  prepared.resources = {comm.size(), rank_memory(comm, asked.run)};
  on_root(comm, [&] { prepared.pair = open_pair(prepared.job, log); });
  broadcast(comm, prepared.pair.base);
  broadcast(comm, prepared.pair.aligned);
  together(comm, [&] {
    prepared.plan = make_plan(prepared.pair.base, prepared.pair.aligned, prepared.job, prepared.resources);
  });
  if (!open_output(comm, prepared, log)) return std::nullopt;
  log_header(comm, log, prepared.resources);  // after validation: an error is one line
  broadcast(comm, prepared.table);
  prepared.finished = broadcast_records(comm, std::move(prepared.finished));
  if (prepared.job.run.recheck) {
    prepared.finished = recheck(comm, prepared.table, OutputPaths(prepared.job.output).journal,
                                std::move(prepared.finished), log);
  }
  prepared.total = count(prepared.plan.items);
  drop_finished(prepared.plan.items, prepared.pair.aligned, prepared.finished);
  deal(prepared.plan.items, comm.size());
  const Counts left = count(prepared.plan.items);
  prepared.earlier = {prepared.total.bytes - left.bytes, prepared.total.items - left.items};
  if (comm.is_root() && prepared.output->state() == Output::State::resumed) {
    log.info("going on with {}: {} of {} items are finished", prepared.job.output, prepared.earlier.items,
             prepared.total.items);
  }
  return prepared;
}

/// Of an output that cannot be finished nothing is left, but for the work of earlier runs.
void throw_away(Output& output, const Log& log) {
  if (output.state() == Output::State::fresh) {
    output.discard();
  } else {
    log.warn("{} and its journal are left as they are: they hold the work of earlier runs",
             output.paths().partial);
  }
}

/// Solves, edits and writes what the plan says: grid items first, then this rank's own. What is wrong with
/// the data ends all ranks in good order: all throw it as SharedError, and the output, which cannot be
/// finished, is thrown away. Other failures leave it to be resumed. Collective.
Worked work(const Comm& comm, Prepared& prepared, const Log& log) {
  const Job& job = prepared.job;
  const std::vector<Item>& items = prepared.plan.items;
  const std::uint64_t memory = *prepared.resources.memory;
  FileStorage base(prepared.pair.base, FileStorage::Access::read);
  FileStorage aligned(prepared.pair.aligned, FileStorage::Access::read);
  FileStorage output(prepared.table, FileStorage::Access::write);
  const RowReader reader({{&prepared.pair.aligned, &aligned}, {&prepared.pair.base, &base}});
  Target target(0, prepared.table, output, {full_rank, job.coef});
  Journal journal(OutputPaths(job.output).journal, prepared.run, comm.rank());
  EditSteps steps(comm, reader, job.solve, {&target}, journal, log, memory);
  RankProgress progress(comm, log, prepared.total, prepared.earlier);

  Worked worked;
  std::optional<Error> failure;
  try {
    worked.records = run_on_grid(comm, steps, journal, items, progress, worked.counts);
    worked.times = steps.grid_times();
    std::vector<Item> mine;
    std::copy_if(items.begin(), items.end(), std::back_inserter(mine),
                 [&](const Item& item) { return item.where == Where::local && item.rank == comm.rank(); });
    LocalPipeline pipeline(steps, memory - std::min(memory, program_memory + prepared.plan.book_keeping));
    for (Record& record : pipeline.run(mine, progress, worked.counts, worked.times)) {
      worked.records.push_back(std::move(record));
    }
  } catch (const Error& error) {
    if (!is_fault_of_data(error)) throw;
    failure = error;
    request_stop(2);
  } catch (const Stopped&) {  // a second signal: the item in hand was dropped
  }
  const Timer finishing;
  progress.finish(worked.counts);
  worked.times.idle = finishing.seconds();
  try {
    agree(comm, failure);
  } catch (...) {
    if (comm.is_root()) throw_away(*prepared.output, log);
    throw;
  }
  return worked;
}

/// Gathers what the ranks did; if that is all, writes the report and gives the output its name. Collective.
ExitCode conclude(const Comm& comm, Prepared& prepared, Worked& worked, const Timer& start, const Log& log) {
  const Job& job = prepared.job;
  RunTotals totals;
  totals.peak_rss_bytes = static_cast<std::uint64_t>(comm.max(static_cast<double>(peak_memory())));
  totals.ranks = comm.size();
  totals.work = sum_times(comm, worked.times);
  const bool whole = comm.sum(worked.counts.items) == prepared.total.items - prepared.earlier.items;
  std::vector<Record> all = gather_records(comm, worked.records);
  if (!whole) {
    log.info("stopped early; the same command goes on from here");
    return ExitCode::stopped;
  }
  on_root(comm, [&] {
    check_unchanged("base", prepared.pair.base, prepared.identity["base"]);
    check_unchanged("aligned", prepared.pair.aligned, prepared.identity["aligned"]);
    all.insert(all.begin(), prepared.finished.begin(), prepared.finished.end());
    all = latest(std::move(all));
    put_edges(prepared.output->paths().journal, all, {&prepared.table});
    totals.seconds = start.seconds();
    Report report = make_report(reported_job(job), prepared.pair.aligned, std::move(all), totals);
    report.proof = {fingerprint_of(prepared.identity), table_checksum(prepared.table),
                    prepared.table.bytes()};
    write_text_atomically(report_path(job), report_to_json(report).dump(1) + "\n");
    prepared.output->publish();
    prepared.output->close();
    log_efficiency(log, report, *prepared.resources.memory);
    log_summary(log, report);
    log.info("wrote {} and {}", job.output, report_path(job));
  });
  return ExitCode::done;
}

}  // namespace

ExitCode harden(const Comm& comm, const Job& job, const Log& log) {
  const Timer start;
  keep_freed_memory();
  set_time_limit(job.run);
  std::optional<Prepared> prepared = prepare(comm, job, log);
  if (!prepared) return ExitCode::done;
  Worked worked = work(comm, *prepared, log);
  return conclude(comm, *prepared, worked, start, log);
}

}  // namespace lox
