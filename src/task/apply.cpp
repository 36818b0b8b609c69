// SPDX-License-Identifier: MIT
#include "lox/task/apply.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"
#include "lox/io/factors.hpp"
#include "lox/plan/apply_plan.hpp"
#include "lox/run/apply_steps.hpp"
#include "lox/task/factor_choice.hpp"
#include "lox/task/journaled.hpp"
#include "lox/task/pair.hpp"
#include "lox/task/session.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <set>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

/// One output: where, and the blend of the factors in it.
struct ApplyTarget {
  JournaledOutputs::Place place;
  Blend blend;
};

std::vector<ApplyTarget> targets_of(const ApplyJob& job, std::int64_t stored_k) {
  std::vector<Index> ranks = job.k;
  if (ranks.empty()) ranks.push_back(stored_k);
  std::vector<ApplyTarget> targets;
  std::set<fs::path> names;
  for (const Index k : ranks) {
    for (const double coef : job.coef) {
      ApplyTarget target;
      target.blend = {k, coef};
      target.place.output = apply_output(job, k, coef);
      Job named;
      named.output = target.place.output;
      named.report = job.report;
      target.place.report = report_path(named);
      if (!names.insert(normal_path(target.place.output)).second) {
        fail(ExitCode::usage, "--output '{}' gives two outputs one name; write {{k}} and {{coef}} into it",
             job.output);
      }
      targets.push_back(std::move(target));
    }
  }
  if (targets.size() > 1 && !job.report.empty()) {
    fail(ExitCode::usage, "--report is for one output; each of several has <output>.report.json");
  }
  return targets;
}

/// Throws Error(bad_input) for a k that the store does not vouch for.
void check_ranks(const ApplyJob& job, const FactorsInfo& info, const std::vector<ApplyTarget>& targets,
                 const Log& log) {
  for (const ApplyTarget& target : targets) {
    const std::string warning = check_rank(job.factors, info, target.blend.k, job.accept_open);
    if (!warning.empty()) log.warn("{}", warning);
  }
}

Index largest_rank(const std::vector<ApplyTarget>& targets) {
  Index k = 0;
  for (const ApplyTarget& target : targets) k = std::max(k, target.blend.k);
  return k;
}

/// All that is decided before the outputs are opened; on every rank.
struct Prepared {
  Resources resources;
  Checkpoint aligned;  ///< or the base: what is added to
  Checkpoint store;
  FactorsInfo info;  ///< on rank 0
  std::vector<ApplyTarget> targets;
  ExpectedContents contents;
  Plan plan;
};

/// Opens model and store. For one process.
Prepared opened(const ApplyJob& job, const Log& log) {
  Prepared prepared;
  prepared.aligned = open_aligned(job.model(), log);
  prepared.store = open_checkpoint(job.factors);
  prepared.info = read_factors_info(prepared.store);
  check_ranks(job, prepared.info, targets_of(job, prepared.info.k), log);
  if (std::ranges::find(job.coef, 0) != job.coef.end()) warn_of_no_edit(0, job.model(), log);
  return prepared;
}

/// Reads the headers and decides what is to be done. Collective.
Prepared prepare(const Comm& comm, const ApplyJob& job, const Log& log) {
  Prepared prepared;
  on_root(comm, [&] { prepared = opened(job, log); });
  prepared.resources = {comm.size(), rank_memory(comm, job.run)};
  prepared.info.k = std::stoll(comm.broadcast(std::to_string(prepared.info.k)));
  prepared.targets = targets_of(job, prepared.info.k);
  broadcast(comm, prepared.aligned);
  broadcast(comm, prepared.store);
  prepared.contents = share_contents(comm, job.factors, prepared.info, job.onto());
  together(comm, [&] {
    prepared.plan = plan_apply(prepared.aligned, prepared.store, prepared.info.k,
                               largest_rank(prepared.targets), prepared.targets.size(), prepared.resources);
  });
  on_root(comm, [&] { check_entries(job.factors, prepared.info, prepared.aligned, prepared.plan.items); });
  return prepared;
}

JournaledOutputs outputs_of(const ApplyJob& job, const Prepared& prepared) {
  JournaledOutputs outputs;
  outputs.task = "apply";
  outputs.parameters = nlohmann::json::array();
  for (const ApplyTarget& target : prepared.targets) {
    outputs.parameters.push_back({{"k", target.blend.k},
                                  {"coef", target.blend.coef},
                                  {"name", printable(target.place.output.filename().native(), SIZE_MAX)}});
    outputs.places.push_back(target.place);
  }
  outputs.inputs = {{job.model_name(), &prepared.aligned}, {"factors", &prepared.store}};
  outputs.like = &prepared.aligned;
  outputs.leading = &prepared.aligned;
  outputs.overwrite = job.overwrite;
  outputs.moves = [copies = prepared.targets.size()](const Item& item) { return (1 + copies) * item.bytes; };
  outputs.disk = prepared.aligned.bytes_with_files();
  return outputs;
}

void work(const Prepared& prepared, JournaledTask& task) {
  FileStorage aligned(prepared.aligned, FileStorage::Access::read);
  FileStorage store(prepared.store, FileStorage::Access::read);
  const RowReader reader({{&prepared.aligned, &aligned}});
  const FactorReader factors(prepared.store, store);
  std::deque<FileStorage> storages;
  std::deque<Target> targets;
  std::vector<Target*> all;
  for (std::size_t t = 0; t < prepared.targets.size(); ++t) {
    storages.emplace_back(task.tables()[t], FileStorage::Access::write);
    targets.emplace_back(static_cast<int>(t), task.tables()[t], storages.back(), prepared.targets[t].blend);
    all.push_back(&targets.back());
  }
  ApplySteps steps(reader, factors, &prepared.contents, all, task.journal());
  task.work(steps, nullptr);
}

nlohmann::ordered_json reported_job(const ApplyJob& job, const FactorsInfo& info, const ApplyTarget& target) {
  nlohmann::ordered_json reported;
  for (const auto& [name, value] : info.job.items()) reported[name] = value;
  reported["k"] = target.blend.k;
  reported["coef"] = target.blend.coef;
  reported[job.model_name()] = printable(job.model().native(), SIZE_MAX);
  reported["factors"] = printable(job.factors.native(), SIZE_MAX);
  reported["output"] = printable(target.place.output.native(), SIZE_MAX);
  return reported;
}

}  // namespace

fs::path apply_output(const ApplyJob& job, const std::optional<Index>& k, double coef) {
  const std::string name = k ? replaced(job.output, "{k}", std::to_string(*k)) : job.output;
  return without_slash(replaced(name, "{coef}", fmt::format("{}", coef)));
}

void check_apply_job(const ApplyJob& job) {
  if (job.model().empty()) fail(ExitCode::usage, "--aligned is missing: the model that the factors are of");
  if (!job.aligned.empty() && !job.base.empty()) {
    fail(ExitCode::usage, "--aligned and --base: the factors are added to one of them");
  }
  if (job.factors.empty()) fail(ExitCode::usage, "--factors is missing: what 'lox factor' has written");
  if (job.output.empty()) fail(ExitCode::usage, "--output is missing: where the hardened checkpoint goes");
  for (const Index k : job.k) {
    if (k < 1)
      fail(ExitCode::usage, "--k {} is not a number of triplets; full rank has no factors, use harden", k);
  }
  if (job.coef.empty()) fail(ExitCode::usage, "--coef is missing");
  for (const double coef : job.coef) check_coef(coef);
  (void)targets_of(job, 1);
}

ExitCode apply(const Comm& comm, const ApplyJob& job, const Log& log) {
  keep_freed_memory();
  set_time_limit(job.run);
  const Prepared prepared = prepare(comm, job, log);
  JournaledTask task(comm, log, outputs_of(job, prepared), prepared.plan, prepared.resources, job.run);
  if (!task.begin()) return ExitCode::done;
  for (const ApplyTarget& target : prepared.targets) {
    log.info("{}: k = {}, coef = {}", target.place.output, target.blend.k, target.blend.coef);
  }
  work(prepared, task);
  return task.conclude([&](std::vector<Record> records, const RunTotals& totals) {
    records = join_stretches(records);
    const FactorEntries entries = entries_by_matrix(prepared.info);
    std::vector<Report> reports;
    for (std::size_t t = 0; t < prepared.targets.size(); ++t) {
      const ApplyTarget& target = prepared.targets[t];
      std::vector<Record> own = records;
      for (Record& record : own) {
        const auto entry = entries.find({record.key.name, record.key.matrix});
        if (entry == entries.end()) continue;  // copied
        check_content(prepared.contents, record.key.name, record.key.matrix, record.aligned);
        describe(*entry->second, target.blend.k, prepared.info.k, record.spectrum);
      }
      reports.push_back(
          make_report(reported_job(job, prepared.info, target), prepared.aligned, own, totals, t));
    }
    return reports;
  });
}

Planned plan_apply_job(const ApplyJob& job, const PlanRequest& request, const Log& log) {
  Prepared prepared = opened(job, log);
  prepared.targets = targets_of(job, prepared.info.k);
  const std::size_t count = prepared.targets.size();
  std::vector<PlannedRun> runs = plan_ways(request, [&](const Resources& way, PlannedRun& run) {
    run.plan = plan_apply(prepared.aligned, prepared.store, prepared.info.k, largest_rank(prepared.targets),
                          count, way);
    run.forecast = forecast_apply(run.plan, prepared.aligned, count, way.ranks, request.bandwidth_of(way));
    if (prepared.plan.items.empty()) prepared.plan = run.plan;
  });
  check_entries(job.factors, prepared.info, prepared.aligned, prepared.plan.items);
  Planned planned = foresee(outputs_of(job, prepared));
  planned.runs = std::move(runs);
  planned.aligned = std::move(prepared.aligned);
  return planned;
}

}  // namespace lox
