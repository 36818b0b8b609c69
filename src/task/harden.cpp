// SPDX-License-Identifier: MIT
#include "lox/task/harden.hpp"

#include "lox/base/buffer.hpp"
#include "lox/io/storage.hpp"
#include "lox/run/adapter_factors.hpp"
#include "lox/run/edit_steps.hpp"
#include "lox/task/journaled.hpp"
#include "lox/task/pair.hpp"
#include "lox/task/session.hpp"

#include <nlohmann/json.hpp>

namespace lox {
namespace {

/// All that is decided before the output is opened; on every rank.
struct Prepared {
  Job job;
  Resources resources;
  Pair pair;
  Plan plan;
};

/// Reads the headers and decides what is to be done. Collective.
Prepared prepare(const Comm& comm, const Job& asked, const Log& log) {
  Prepared prepared;
  prepared.job = with_drawn_seed(comm, asked);
  prepared.resources = {comm.size(), rank_memory(comm, asked.run)};
  on_root(comm, [&] { prepared.pair = open_pair(prepared.job, log); });
  broadcast(comm, prepared.pair);
  together(comm, [&] {
    const Pair& pair = prepared.pair;
    prepared.plan = make_plan(pair.base, pair.aligned, prepared.job, prepared.resources, pair.made_by());
  });
  return prepared;
}

JournaledOutputs outputs_of(const Prepared& prepared) {
  const Job& job = prepared.job;
  const Pair& pair = prepared.pair;
  JournaledOutputs outputs;
  outputs.task = "harden";
  outputs.parameters = job_parameters(job);
  outputs.inputs = {{"base", &pair.base}, {"aligned", &pair.given()}};
  outputs.places = {{job.output, report_path(job)}};
  outputs.like = &pair.aligned;
  outputs.leading = &pair.aligned;
  outputs.overwrite = job.overwrite;
  outputs.disk = pair.aligned.bytes_with_files();
  return outputs;
}

/// Solves, edits and writes what the plan says. Collective.
void work(const Comm& comm, const Prepared& prepared, JournaledTask& task, const Log& log) {
  const Job& job = prepared.job;
  const Pair& pair = prepared.pair;
  const Checkpoint& table = task.tables().front();
  FileStorage base(pair.base, FileStorage::Access::read);
  FileStorage aligned(pair.aligned, FileStorage::Access::read);
  FileStorage output(table, FileStorage::Access::write);
  const RowReader reader({{&pair.aligned, &aligned}, {&pair.base, &base}});
  Target target(0, table, output, {full_rank, job.coef});
  EditSteps steps(comm, reader, job.solve, {&target}, task.journal(), log, task.memory());
  if (!pair.adapter) {
    task.work(steps, &steps);
    return;
  }
  FileStorage adapter(pair.given(), FileStorage::Access::read);
  const AdapterFactors factors(*pair.adapter, adapter);
  ApplySteps with_factors(reader, factors, nullptr, {&target}, task.journal());
  StepsByMethod both(with_factors, steps);
  task.work(both, &steps);
}

}  // namespace

ExitCode harden(const Comm& comm, const Job& job, const Log& log) {
  keep_freed_memory();
  set_time_limit(job.run);
  const Prepared prepared = prepare(comm, job, log);
  JournaledTask task(comm, log, outputs_of(prepared), prepared.plan, prepared.resources, job.run);
  if (!task.begin()) return ExitCode::done;
  work(comm, prepared, task, log);
  return task.conclude([&](std::vector<Record> records, const RunTotals& totals) -> std::vector<Report> {
    refuse_equal_models(prepared.pair, records);
    nlohmann::ordered_json reported = reported_job(prepared.job);
    if (prepared.pair.adapter) {
      reported["adapter"] = describe(*prepared.pair.adapter);
      records = join_stretches(records);
    }
    return {make_report(std::move(reported), prepared.pair.aligned, records, totals)};
  });
}

Planned plan_harden(const Job& asked, const PlanRequest& request, const Log& log) {
  Prepared prepared;
  prepared.job = with_earlier_seed(asked);
  prepared.pair = open_pair(prepared.job, log);
  const Checkpoint& aligned = prepared.pair.aligned;
  std::vector<PlannedRun> runs = plan_ways(request, [&](const Resources& way, PlannedRun& run) {
    run.plan = make_plan(prepared.pair.base, aligned, prepared.job, way, prepared.pair.made_by());
    run.forecast = forecast(run.plan, aligned, way.ranks, request.bandwidth_of(way));
  });
  Planned planned = foresee(outputs_of(prepared));
  planned.runs = std::move(runs);
  planned.aligned = std::move(prepared.pair.aligned);
  return planned;
}

}  // namespace lox
