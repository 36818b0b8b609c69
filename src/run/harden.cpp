// SPDX-License-Identifier: MIT
#include "lox/run/harden.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"
#include "lox/base/stop.hpp"
#include "lox/base/timer.hpp"
#include "lox/base/units.hpp"
#include "lox/base/version.hpp"
#include "lox/io/convert.hpp"
#include "lox/io/storage.hpp"
#include "lox/linalg/libraries.hpp"
#include "lox/plan/cost.hpp"
#include "lox/plan/forecast.hpp"
#include "lox/plan/memory.hpp"
#include "lox/run/grid_work.hpp"
#include "lox/run/journal.hpp"
#include "lox/run/local_work.hpp"
#include "lox/run/report.hpp"
#include "lox/run/workspace.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using Key = std::pair<int, std::int64_t>;  ///< tensor and matrix of an item

/// Which items are finished already. A record that names nothing in the plan is ignored.
std::set<Key> finished_keys(const Checkpoint& aligned, const std::vector<TensorRecord>& records) {
  std::map<std::string, int> index;
  for (std::size_t t = 0; t < aligned.tensors.size(); ++t)
    index.emplace(aligned.tensors[t].name, static_cast<int>(t));
  std::set<Key> keys;
  for (const TensorRecord& record : records) {
    const auto found = index.find(record.name);
    if (found != index.end()) keys.emplace(found->second, record.matrix);
  }
  return keys;
}

Progress::Counts count(const Models& models, const Plan& plan, const std::vector<WorkItem>& items) {
  Progress::Counts counts;
  for (const WorkItem& item : items) counts.bytes += item_bytes(models, plan, item);
  counts.items = static_cast<std::int64_t>(items.size());
  return counts;
}

/// Tables and records that rank 0 found, on all ranks.
void broadcast_tables(const Comm& comm, Models& models, std::vector<TensorRecord>& finished) {
  for (Checkpoint* table : {&models.base, &models.aligned, &models.output}) broadcast(comm, *table);
  nlohmann::json records = nlohmann::json::array();
  for (const TensorRecord& record : finished) records.push_back(record_to_json(record));
  const std::string text = comm.broadcast(comm.is_root() ? records.dump() : "");
  if (comm.is_root()) return;
  for (const nlohmann::json& record : nlohmann::json::parse(text))
    finished.push_back(record_from_json(record));
}

/// The records of all ranks, on rank 0.
std::vector<TensorRecord> gather_records(const Comm& comm, const std::vector<TensorRecord>& mine) {
  std::string lines;
  for (const TensorRecord& record : mine) lines += record_to_json(record).dump() + "\n";
  std::vector<TensorRecord> all;
  for (const std::string& text : comm.gather(lines)) {
    for (TensorRecord& record : Journal::parse(text)) all.push_back(std::move(record));
  }
  return all;
}

/// The least that any rank may use: the plan must be the same everywhere. Collective.
std::uint64_t rank_memory(const Comm& comm, const Job& job) {
  const std::uint64_t mine = job.memory != 0 ? job.memory : available_memory(node_ranks(comm).size);
  return static_cast<std::uint64_t>(-comm.max(-static_cast<double>(mine)));
}

/// The job with the seed drawn that was asked to be drawn: an unfinished output keeps its own. Collective.
Job with_seed(const Comm& comm, const Job& asked) {
  Job job = asked;
  if (!asked.random_seed) return job;
  on_root(comm, [&] {
    std::random_device entropy;  // of the operating system
    const std::uint64_t drawn = (std::uint64_t{entropy()} << 32) | entropy();
    job.seed = unfinished_seed(job).value_or(drawn);
  });
  job.seed = std::stoull(comm.broadcast(std::to_string(job.seed)));
  return job;
}

/// When to stop at the latest: by the option, else by the Slurm job's own end.
void set_time_limit(const Job& job) {
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  const char* const slurm = std::getenv("SLURM_JOB_END_TIME");
  if (job.time_limit > 0) {
    set_deadline(now + job.time_limit);
  } else if (slurm != nullptr) {
    set_deadline(std::strtod(slurm, nullptr));
  }
}

/// The finished records whose bytes in the output still have their checksums; the others are done again. The
/// ranks share the reading. Collective.
std::vector<TensorRecord> recheck(const Comm& comm, const Models& models, std::vector<TensorRecord> finished,
                                  const Log& log) {
  std::map<std::string, const TensorInfo*> tensors;
  for (const TensorInfo& tensor : models.output.tensors) tensors.emplace(tensor.name, &tensor);
  FileStorage storage(models.output, FileStorage::Access::read);
  std::vector<double> bad(finished.size(), 0.0);
  for (std::size_t i = 0; i < finished.size(); ++i) {
    const auto found = tensors.find(finished[i].name);
    if (static_cast<int>(i % static_cast<std::size_t>(comm.size())) != comm.rank() || found == tensors.end())
      continue;
    for (const Piece& piece : finished[i].pieces) {
      const std::uint64_t all = found->second->extent.bytes;
      if (piece.first > all || piece.bytes > all - piece.first) {
        bad[i] = 1;
        continue;
      }
      Buffer buffer(piece.bytes);
      storage.read(found->second->extent, piece.first, buffer.bytes());
      if (checksum(buffer.bytes()) != piece.xxh3) bad[i] = 1;
    }
  }
  comm.sum(bad);
  std::vector<TensorRecord> good;
  for (std::size_t i = 0; i < finished.size(); ++i) {
    if (bad[i] == 0) {
      good.push_back(std::move(finished[i]));
    } else {
      log.warn("tensor '{}' matrix {} is not what was written; it will be done again", finished[i].name,
               finished[i].matrix);
    }
  }
  log.info("rechecked {} finished items, {} to do again", finished.size(), finished.size() - good.size());
  return good;
}

/// The items that all ranks solve together, one after the other. Collective.
void work_on_grid(const Comm& comm, ModelFiles& files, const Job& job, Journal& journal, const Plan& plan,
                  Progress& progress, Progress::Counts& counts, std::vector<TensorRecord>& records,
                  WorkTimes& times, const Log& log, std::uint64_t memory) {
  const auto on_grid = [](const WorkItem& item) { return item.where == Where::grid; };
  if (std::none_of(plan.items.begin(), plan.items.end(), on_grid)) return;
  GridWork work(comm, files, job, journal, log, memory);
  for (const WorkItem& item : plan.items) {
    progress.update(counts);
    if (!on_grid(item) || comm.max(progress.stop_urgency()) > 0) continue;
    TensorRecord record = work.edit(item);
    if (!comm.is_root()) continue;
    counts.bytes += record.bytes_read + record.bytes_written;
    ++counts.items;
    records.push_back(std::move(record));
  }
  times = work.times();
}

/// Sums over ranks, on all of them. Collective.
WorkTimes sum_times(const Comm& comm, const WorkTimes& mine) {
  std::array<double, 9> sums{mine.solving,
                             mine.waiting,
                             mine.idle,
                             mine.reading,
                             mine.writing,
                             mine.grid.products,
                             mine.grid.communication,
                             mine.grid.total,
                             mine.redistribution};
  comm.sum(sums);
  return {sums[0], sums[1], sums[2], sums[3], sums[4], {sums[5], sums[6], sums[7]}, sums[8]};
}

/// What an administrator asks: where, with what, on how much. Collective.
void log_header(const Comm& comm, const Log& log, const Resources& resources) {
  const auto environment = [](const char* name) {
    const char* const value = std::getenv(name);
    return value == nullptr ? std::string() : printable(value);
  };
  const int nodes = comm.size() / std::max(1, node_ranks(comm).size);
  std::string where = fmt::format("{} ranks x {} threads", comm.size(), max_threads());
  if (const std::string list = environment("SLURM_JOB_NODELIST"); !list.empty()) {
    where += fmt::format(" on {}, Slurm job {}", list, environment("SLURM_JOB_ID"));
    if (const std::string restarts = environment("SLURM_RESTART_COUNT"); !restarts.empty()) {
      where += fmt::format(" (restart {})", restarts);
    }
  } else {
    where += fmt::format(" on {} node{}", std::max(nodes, 1), nodes > 1 ? "s" : "");
  }
  log.info("lox {}: {}, up to {} of memory a rank", version(), where,
           format_bytes(static_cast<double>(resources.memory)));
}

/// The efficiency block: like seff's, but of the program's own making.
void log_efficiency(const Log& log, const RunTotals& totals, const nlohmann::ordered_json& report,
                    std::uint64_t memory) {
  const WorkTimes& work = totals.work;
  const double all = std::max(totals.seconds * totals.ranks, 1e-9);
  const auto share = [&](double seconds) { return 100 * seconds / all; };
  const double bytes =
      report["totals"]["bytes_read"].get<double>() + report["totals"]["bytes_written"].get<double>();
  log.info(
      "ranks: {:.0f}% solving, {:.0f}% waiting for files, {:.0f}% idle at the end; beside it {:.0f}% "
      "reading, "
      "{:.0f}% writing; {}/s moved",
      share(work.solving), share(work.waiting), share(work.idle), share(work.reading), share(work.writing),
      format_bytes(bytes / std::max(totals.seconds, 1e-9)));
  log.info("peak memory of a rank {} of {} ({:.0f}%)",
           format_bytes(static_cast<double>(totals.peak_rss_bytes)),
           format_bytes(static_cast<double>(memory)),
           100 * static_cast<double>(totals.peak_rss_bytes) / std::max(1.0, static_cast<double>(memory)));
}

void log_summary(const Log& log, const Job& job, const nlohmann::ordered_json& report) {
  const nlohmann::ordered_json& totals = report["totals"];
  double worst = 0;
  double realised = 0;
  double edit = 0;
  double epsilon = 0;
  double probability = 0;
  std::int64_t unsettled = 0;
  for (const nlohmann::ordered_json& tensor : report["tensors"]) {
    worst = std::max(worst, tensor.value("certificate", 0.0));
    if (tensor.contains("missed")) {
      epsilon = std::max(epsilon, tensor["missed"]["epsilon"].get<double>());
      probability += tensor["missed"]["probability"].get<double>();
      unsettled += tensor["settled"].get<bool>() ? 0 : 1;
    }
    const double squared = std::pow(tensor.value("edit_norm", 0.0), 2);
    realised += tensor.value("realised", 0.0) * squared;
    edit += squared;
  }
  log.info("hardened {} tensors, copied {} ({} read, {} written)", totals["edited"].get<std::int64_t>(),
           totals["copied"].get<std::int64_t>(), format_bytes(totals["bytes_read"].get<double>()),
           format_bytes(totals["bytes_written"].get<double>()));
  log.info("worst certificate {:.1e}, {:.1f}% of the edit survives rounding", worst,
           edit > 0 ? 100 * realised / edit : 0.0);
  if (probability > 0) {
    log.info(
        "no singular value above {:.2f} s_k is missing in any matrix, but for a probability of {:.0e}; seed "
        "{}",
        1 + epsilon, probability, job.seed);
  } else {
    log.info("the k largest singular values of every matrix are found for certain; seed {}", job.seed);
  }
  if (unsettled > 0) {
    log.info("{} tensors have s_k = s_k+1 as far as arithmetic tells: the last digits of their edit are open",
             unsettled);
  }
  log.info("wrote {} and {}", job.output, report_path(job));
}

}  // namespace

ExitCode harden(const Comm& comm, const Job& asked, const Log& log) {
  const Timer start;
  const Job job = with_seed(comm, asked);
  keep_freed_memory();
  const Resources resources{comm.size(), rank_memory(comm, job)};
  set_time_limit(job);
  Models models;
  Workspace workspace;
  nlohmann::json fingerprint;
  on_root(comm, [&] {
    models.base = open_checkpoint(job.base);
    models.aligned = open_checkpoint(job.aligned);
    for (const Checkpoint* model : {&models.base, &models.aligned}) refuse_quantised(*model);
    std::erase_if(models.aligned.other_files, [&](const OtherFile& file) {
      const bool drop = is_foreign_weights(file.name);
      if (drop) log.warn("{} is not carried over: it holds weights that are not hardened", file.name);
      return drop;
    });
    const Plan plan = make_plan(models.base, models.aligned, job, resources);
    if (!fs::exists(partial_path(job.output))) {
      check_space(job.output, forecast(plan, models.aligned, comm.size()).disk);
    }
    workspace =
        open_workspace(job, models.base, models.aligned, static_cast<std::int64_t>(plan.items.size()));
    models.output = workspace.output;
    if (!workspace.published) fingerprint = job_fingerprint(job, models.base, models.aligned);
  });
  if (comm.sum(std::int64_t{workspace.published ? 1 : 0}) > 0) {
    on_root(comm, [&] {
      remove_journal(job);
      log.info("{} was finished already", job.output);
    });
    return ExitCode::done;
  }
  log_header(comm, log, resources);  // after validation: an error is one line
  broadcast_tables(comm, models, workspace.finished);
  if (job.recheck) workspace.finished = recheck(comm, models, std::move(workspace.finished), log);

  Plan plan = make_plan(models.base, models.aligned, job, resources);
  const Progress::Counts total = count(models, plan, plan.items);
  const std::set<Key> finished = finished_keys(models.aligned, workspace.finished);
  std::erase_if(plan.items, [&](const WorkItem& item) {
    return finished.contains({item.tensor, item.matrix});
  });
  deal(plan.items, comm.size());
  const Progress::Counts left = count(models, plan, plan.items);
  if (workspace.resumed) {
    log.info("going on with {}: {} of {} items are finished", job.output, total.items - left.items,
             total.items);
  }
  std::vector<WorkItem> mine;
  for (const WorkItem& item : plan.items) {
    if (item.where == Where::local && item.rank == comm.rank()) mine.push_back(item);
  }

  Journal journal(Journal::directory(job.output), comm.rank());
  Progress progress(comm, log, total, {total.bytes - left.bytes, total.items - left.items});
  Progress::Counts counts;
  std::vector<TensorRecord> records;
  WorkTimes times;
  std::optional<Error> failure;
  try {
    ModelFiles files(models, plan);
    work_on_grid(comm, files, job, journal, plan, progress, counts, records, times, log, resources.memory);
    LocalWork work(files, job, journal, resources.memory - std::min(resources.memory, program_memory));
    for (TensorRecord& record : work.run(mine, progress, counts, times)) records.push_back(std::move(record));
  } catch (const Error& error) {
    // What is wrong with the data is wrong for all: end in good order. Anything else goes up to MPI_Abort.
    if (error.code() != ExitCode::bad_input && error.code() != ExitCode::not_certified) throw;
    failure = error;
    request_stop(2);
  } catch (const Stopped&) {  // a second signal: the item in hand was dropped
  }
  const Timer finishing;
  progress.finish(counts);
  times.idle = finishing.seconds();
  try {
    agree(comm, failure);
  } catch (...) {
    if (comm.is_root()) {
      workspace.lock.reset();
      discard_workspace(job.output);
    }
    throw;
  }

  RunTotals totals;
  totals.peak_rss_bytes = static_cast<std::uint64_t>(comm.max(static_cast<double>(peak_rss_bytes())));
  totals.ranks = comm.size();
  totals.work = sum_times(comm, times);
  const bool whole = comm.sum(counts.items) == left.items;
  std::vector<TensorRecord> all = gather_records(comm, records);
  if (!whole) {
    log.info("stopped early; the same command goes on from here");
    return ExitCode::stopped;
  }
  on_root(comm, [&] {
    check_inputs_unchanged(fingerprint, models.base, models.aligned);
    all.insert(all.begin(), workspace.finished.begin(), workspace.finished.end());
    all = latest(std::move(all));
    totals.seconds = start.seconds();
    const nlohmann::ordered_json report = make_report(job, models.aligned, all, totals);
    close_workspace(job, report);
    log_efficiency(log, totals, report, resources.memory);
    log_summary(log, job, report);
  });
  return ExitCode::done;
}

}  // namespace lox
