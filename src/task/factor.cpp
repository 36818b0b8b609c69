// SPDX-License-Identifier: MIT
#include "lox/task/factor.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/version.hpp"
#include "lox/io/factors.hpp"
#include "lox/io/identity.hpp"
#include "lox/run/adapter_factors.hpp"
#include "lox/run/factor_steps.hpp"
#include "lox/task/journaled.hpp"
#include "lox/task/pair.hpp"
#include "lox/task/session.hpp"

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

/// The job's parameters: factors know no coef.
nlohmann::json parameters_of(const Job& job) {
  nlohmann::json parameters = job_parameters(job);
  parameters.erase("coef");
  return parameters;
}

/// All that is decided before the store is opened; the pair and the plan on every rank, the rest on rank 0.
struct Prepared {
  Job job;
  Resources resources;
  Pair pair;
  Plan plan;
  FactorsInfo info;  ///< but for the matrices' numbers
  Checkpoint store;  ///< to be made
};

/// The tensors of the aligned model that items are of, in its order.
std::vector<TensorInfo> factored_tensors(const Plan& plan, const Checkpoint& aligned) {
  std::set<int> indices;
  for (const Item& item : plan.items) indices.insert(item.matrix.tensor(aligned_model));
  std::vector<TensorInfo> tensors;
  for (const int index : indices) tensors.push_back(aligned.tensors[static_cast<std::size_t>(index)]);
  return tensors;
}

FactorsInfo info_without_numbers(const Prepared& prepared) {
  FactorsInfo info;
  info.lox = version();
  info.k = prepared.job.solve.k;
  info.job = parameters_of(prepared.job);
  info.base = identity_of(prepared.pair.base);
  info.aligned = identity_of(prepared.pair.given());
  for (const Item& item : prepared.plan.items) {
    const auto tensor = static_cast<std::size_t>(item.matrix.tensor(aligned_model));
    FactorEntry entry;
    entry.tensor = prepared.pair.aligned.tensors[tensor].name;
    entry.matrix = item.matrix.number;
    entry.base.emplace();
    info.matrices.push_back(std::move(entry));
  }
  return info;
}

/// Decides on the store, by the plan.
void make_store(Prepared& prepared) {
  prepared.info = info_without_numbers(prepared);
  prepared.store = factors_to_make(
      factor_tensors(factored_tensors(prepared.plan, prepared.pair.aligned), prepared.job.solve.k),
      format_of(prepared.job.output), longest_factors_text(prepared.info));
}

/// Reads the headers and decides what is to be done. Collective.
Prepared prepare(const Comm& comm, const Job& asked, const Log& log) {
  Prepared prepared;
  prepared.job = with_drawn_seed(comm, asked);
  prepared.job.solve.every_k = true;
  prepared.resources = {comm.size(), rank_memory(comm, asked.run)};
  on_root(comm, [&] { prepared.pair = open_pair(prepared.job, log); });
  broadcast(comm, prepared.pair);
  together(comm, [&] {
    const Pair& pair = prepared.pair;
    prepared.plan = plan_factors(pair.base, pair.aligned, prepared.job, prepared.resources, pair.made_by());
  });
  on_root(comm, [&] { make_store(prepared); });
  return prepared;
}

/// Bytes of both models and of the store.
std::uint64_t bytes_factored(const Item& item, Index k) {
  const Index rows = item.matrix.rows;
  const Index cols = item.matrix.cols;
  const Index columns = (rows + cols + 1) * k * (dtype_bits(item.dtype) > 16 ? 2 : 1);
  const Index delta = std::min(rows, cols) <= k ? rows * cols : 0;
  return item.bytes + static_cast<std::uint64_t>(rows * cols) * element_bytes(item.base_dtype) +
         static_cast<std::uint64_t>(columns + delta) * sizeof(float);
}

JournaledOutputs outputs_of(const Prepared& prepared) {
  const Job& job = prepared.job;
  JournaledOutputs outputs;
  outputs.task = "factor";
  outputs.parameters = parameters_of(job);
  outputs.inputs = {{"base", &prepared.pair.base}, {"aligned", &prepared.pair.given()}};
  outputs.places = {{job.output, report_path(job)}};
  outputs.like = &prepared.store;
  outputs.leading = &prepared.pair.aligned;
  outputs.overwrite = job.overwrite;
  outputs.moves = [k = job.solve.k](const Item& item) { return bytes_factored(item, k); };
  outputs.disk = prepared.store.bytes() + longest_factors_text(prepared.info);
  return outputs;
}

void work(const Comm& comm, const Prepared& prepared, JournaledTask& task, const Log& log) {
  const Pair& pair = prepared.pair;
  const Checkpoint& table = task.tables().front();
  FileStorage base(pair.base, FileStorage::Access::read);
  FileStorage aligned(pair.aligned, FileStorage::Access::read);
  FileStorage output(table, FileStorage::Access::write);
  const RowReader reader({{&pair.aligned, &aligned}, {&pair.base, &base}});
  FactorTarget target(0, table, output, prepared.job.solve.k);
  FactorSteps steps(comm, reader, prepared.job.solve, target, task.journal(), log, task.memory());
  if (!pair.adapter) {
    task.work(steps, &steps);
    return;
  }
  FileStorage adapter(pair.given(), FileStorage::Access::read);
  const AdapterFactors factors(*pair.adapter, adapter);
  AdapterFactorSteps with_factors(reader, factors, target, task.journal());
  StepsByMethod both(with_factors, steps);
  task.work(both, &steps);
}

FactorEntry entry_of(const Record& record) {
  const Spectrum& s = record.spectrum;
  FactorEntry entry;
  entry.tensor = record.key.name;
  entry.matrix = record.key.matrix;
  entry.aligned = record.aligned;
  entry.base = record.base;
  entry.delta_norm = s.delta_norm;
  entry.method = method_name(s.method);
  entry.certificate = s.certificate.residual;
  entry.orthogonality = s.certificate.orthogonality;
  entry.missed_epsilon = s.missed.epsilon;
  entry.missed_probability = s.missed.probability;
  entry.settled = s.settled;
  entry.residuals = s.residuals;
  for (const Unsettled& open : s.open) {
    entry.open.push_back({open.k, open.gap, std::string(unsettled_name(open.why))});
  }
  return entry;
}

}  // namespace

ExitCode factor(const Comm& comm, const Job& job, const Log& log) {
  keep_freed_memory();
  set_time_limit(job.run);
  const Prepared prepared = prepare(comm, job, log);
  JournaledTask task(comm, log, outputs_of(prepared), prepared.plan, prepared.resources, job.run);
  if (!task.begin()) return ExitCode::done;
  work(comm, prepared, task, log);
  return task.conclude(
      [&](const std::vector<Record>& records, const RunTotals& totals) -> std::vector<Report> {
        refuse_equal_models(prepared.pair, records);
        FactorsInfo info = prepared.info;
        info.matrices.clear();
        for (const Record& record : records) info.matrices.push_back(entry_of(record));
        write_factors_info(task.tables().front(), info);
        nlohmann::ordered_json reported = reported_job(prepared.job);
        reported.erase("coef");
        if (prepared.pair.adapter) reported["adapter"] = describe(*prepared.pair.adapter);
        return {make_report(std::move(reported), prepared.pair.aligned, records, totals)};
      });
}

Planned plan_factor(const Job& asked, const PlanRequest& request, const Log& log) {
  Prepared prepared;
  prepared.job = with_earlier_seed(asked);
  prepared.job.solve.every_k = true;
  prepared.pair = open_pair(prepared.job, log);
  const Checkpoint& aligned = prepared.pair.aligned;
  std::vector<PlannedRun> runs = plan_ways(request, [&](const Resources& way, PlannedRun& run) {
    run.plan = plan_factors(prepared.pair.base, aligned, prepared.job, way, prepared.pair.made_by());
    if (prepared.plan.items.empty()) {  // the store is the same in all ways
      prepared.plan = run.plan;
      make_store(prepared);
    }
    run.forecast = forecast(run.plan, aligned, way.ranks, request.bandwidth_of(way));
    run.forecast.disk = run.forecast.bytes_written = prepared.store.bytes();
  });
  Planned planned = foresee(outputs_of(prepared));
  planned.runs = std::move(runs);
  planned.aligned = std::move(prepared.pair.aligned);
  return planned;
}

}  // namespace lox
