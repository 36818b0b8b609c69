// SPDX-License-Identifier: MIT
#include "lox/task/analyze.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"
#include "lox/io/output_place.hpp"
#include "lox/plan/apply_plan.hpp"
#include "lox/report/analysis.hpp"
#include "lox/run/adapter_factors.hpp"
#include "lox/run/analysis_steps.hpp"
#include "lox/task/factor_choice.hpp"
#include "lox/task/pair.hpp"
#include "lox/task/session.hpp"
#include "lox/task/text_task.hpp"

#include <algorithm>
#include <deque>
#include <numeric>
#include <set>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

/// All that is decided before anything is read; on every rank, but for what is said to be on rank 0.
struct Prepared {
  Job job;
  Resources resources;
  std::vector<Checkpoint> models;                     ///< by Role
  std::vector<std::optional<AdaptedModel>> adapters;  ///< by Role: of tuned models that are adapters
  std::vector<std::string> names;                     ///< of them, in messages
  Checkpoint store;                                   ///< of no tensors if none was named
  FactorsInfo info;                                   ///< on rank 0
  ExpectedContents contents;
  std::map<std::pair<std::string, std::int64_t>, double> delta_norms;
  Plan plan;

  std::vector<NamedModel> named() const {
    std::vector<NamedModel> all;
    for (std::size_t i = 0; i < models.size(); ++i) all.push_back({names[i], &models[i]});
    return all;
  }
  /// The same as they were given, adapters as such.
  std::vector<NamedModel> given() const {
    std::vector<NamedModel> all = named();
    for (std::size_t i = 0; i < models.size(); ++i) {
      if (adapters[i]) all[i].table = &adapters[i]->adapter.table;
    }
    return all;
  }
};

nlohmann::json parameters_of(const AnalyzeJob& asked, const Job& job) {
  nlohmann::json parameters = job_parameters(job);
  parameters.erase("coef");
  parameters["k"] = asked.k;
  parameters["angles"] = asked.angles;
  return parameters;
}

std::vector<std::string> names_of(std::size_t tuned) {
  std::vector<std::string> names{"aligned", "base"};
  for (std::size_t i = 1; i <= tuned; ++i) names.push_back(tuned == 1 ? "tuned" : fmt::format("tuned {}", i));
  return names;
}

void open_models(const AnalyzeJob& asked, Prepared& prepared, const Log& log) {
  if (is_peft_adapter(prepared.job.aligned)) (void)open_aligned(prepared.job.aligned, log);  // refuses it
  Pair pair = open_pair(prepared.job, log);
  prepared.models.push_back(std::move(pair.aligned));
  prepared.models.push_back(std::move(pair.base));
  prepared.adapters.resize(prepared.names.size());
  for (const fs::path& path : asked.tuned) {
    std::optional<AdaptedModel>& adapter = prepared.adapters[prepared.models.size()];
    if (is_peft_adapter(path)) {
      adapter = adapt(prepared.models[aligned_model], open_peft_adapter(path));
      check_saved_bases(*adapter);
      warn_of_unused_weights(adapter->adapter, log);
    }
    prepared.models.push_back(adapter ? adapter->table : open_aligned(path, Log(Log::Level::silent)));
  }
  if (asked.factors.empty()) return;
  prepared.store = open_checkpoint(asked.factors);
  prepared.info = read_factors_info(prepared.store);
  for (const Index k : asked.k) {
    const std::string warning = check_rank(asked.factors, prepared.info, k, true);
    if (!warning.empty()) log.warn("{}", warning);
  }
}

/// How many numbers are kept of a matrix for each tuned model.
std::uint64_t numbers_of(const AnalyzeJob& asked) {
  const auto angles = static_cast<std::uint64_t>(std::accumulate(asked.k.begin(), asked.k.end(), Index{0}));
  return 8 + 3 * asked.k.size() + (asked.angles ? 2 * angles : 0);
}

/// Of the adapters; 0: there is none.
std::int64_t largest_rank(const Prepared& prepared) {
  std::int64_t largest = 0;
  for (const std::optional<AdaptedModel>& adapter : prepared.adapters) {
    if (!adapter) continue;
    for (const auto& [tensor, update] : adapter->updates) largest = std::max(largest, update.r);
  }
  return largest;
}

/// Without a store all matrices that were selected; with one, those that it has factors of.
Plan plan_of(const AnalyzeJob& asked, const Prepared& prepared) {
  Plan plan = plan_analysis(prepared.named(), prepared.job, {numbers_of(asked), largest_rank(prepared)},
                            prepared.resources);
  if (asked.factors.empty()) return plan;
  const Checkpoint& aligned = prepared.models.front();
  const FactorTable table(prepared.store);
  std::erase_if(plan.items, [&](const Item& item) {
    const TensorInfo& tensor = aligned.tensors[static_cast<std::size_t>(item.matrix.tensor(aligned_model))];
    const FactorIndices parts = table.find(tensor.name);
    const bool has = parts[static_cast<std::size_t>(FactorPart::u)] >= 0;
    if (has) check_factors(prepared.store, prepared.info.k, tensor, parts);
    return !has;
  });
  if (plan.items.empty()) {
    fail(ExitCode::bad_input, "{}: has factors of none of the tensors to be analysed", asked.factors);
  }
  deal(plan.items, prepared.resources.ranks);
  return plan;
}

/// What the store must say of every matrix that is analysed.
void check_store(const AnalyzeJob& asked, const Prepared& prepared) {
  const Checkpoint& aligned = prepared.models.front();
  for (const Item& item : prepared.plan.items) {
    const TensorInfo& tensor = aligned.tensors[static_cast<std::size_t>(item.matrix.tensor(aligned_model))];
    if (prepared.contents.contains({tensor.name, item.matrix.number})) continue;
    fail(ExitCode::bad_input, "{}: its {} does not tell of tensor '{}' matrix {}", asked.factors,
         factors_file, tensor.name, item.matrix.number);
  }
}

void share_store(const Comm& comm, const AnalyzeJob& asked, Prepared& prepared) {
  broadcast(comm, prepared.store);
  prepared.info.k = std::stoll(comm.broadcast(std::to_string(prepared.info.k)));
  prepared.contents = share_contents(comm, asked.factors, prepared.info, aligned_model);
  nlohmann::json norms = nlohmann::json::array();
  for (const FactorEntry& entry : prepared.info.matrices)
    norms.push_back({entry.tensor, entry.matrix, entry.delta_norm});
  for (const nlohmann::json& one : nlohmann::json::parse(comm.broadcast(norms.dump()))) {
    prepared.delta_norms[{one.at(0).get<std::string>(), one.at(1).get<std::int64_t>()}] =
        one.at(2).get<double>();
  }
}

/// Reads the headers and decides what is to be done. Collective.
Prepared prepare(const Comm& comm, const AnalyzeJob& asked, const Log& log) {
  Prepared prepared;
  prepared.job = with_drawn_seed(comm, asked.job, [&](const Job& job) { return parameters_of(asked, job); });
  prepared.job.solve.every_k = true;
  prepared.resources = {comm.size(), rank_memory(comm, asked.job.run)};
  prepared.names = names_of(asked.tuned.size());
  on_root(comm, [&] { open_models(asked, prepared, log); });
  prepared.models.resize(prepared.names.size());
  prepared.adapters.resize(prepared.names.size());
  for (std::size_t i = 0; i < prepared.models.size(); ++i) {
    broadcast(comm, prepared.models[i]);
    broadcast(comm, prepared.models[aligned_model], prepared.adapters[i]);
  }
  if (!asked.factors.empty()) share_store(comm, asked, prepared);
  together(comm, [&] { prepared.plan = plan_of(asked, prepared); });
  if (!asked.factors.empty()) on_root(comm, [&] { check_store(asked, prepared); });
  return prepared;
}

TextAsked asked_of(const AnalyzeJob& asked, const Prepared& prepared) {
  TextAsked text;
  text.task = "analyze";
  text.parameters = parameters_of(asked, prepared.job);
  text.inputs = prepared.given();
  if (!asked.factors.empty()) text.inputs.push_back({"factors", &prepared.store});
  text.output = asked.job.output;
  text.overwrite = asked.job.overwrite;
  text.moves = [&models = prepared.models](const Item& item) {
    std::uint64_t bytes = 0;
    for (std::size_t role = 0; role < models.size(); ++role) {
      const auto tensor = static_cast<std::size_t>(item.matrix.tensors[role]);
      const auto width = element_bytes(models[role].tensors[tensor].dtype);
      const bool again = role == base_model && item.where == Where::grid;
      bytes += static_cast<std::uint64_t>(item.matrix.rows * item.matrix.cols) * width *
               (again ? models.size() - 1 : 1);
    }
    return bytes;
  };
  return text;
}

void work(const Comm& comm, const AnalyzeJob& asked, const Prepared& prepared, TextTask& task,
          const Log& log) {
  std::deque<FileStorage> storages;
  std::deque<AdapterUpdate> updates;
  std::vector<OpenModel> models;
  for (std::size_t i = 0; i < prepared.models.size(); ++i) {
    storages.emplace_back(prepared.models[i], FileStorage::Access::read);
    models.push_back({&prepared.models[i], &storages.back(), prepared.names[i]});
    if (!prepared.adapters[i]) continue;
    storages.emplace_back(prepared.adapters[i]->adapter.table, FileStorage::Access::read);
    models.back().update = &updates.emplace_back(*prepared.adapters[i], storages.back());
  }
  FileStorage store_bytes(prepared.store, FileStorage::Access::read);
  const StoredFactors stored{&prepared.store,
                             prepared.info.k,
                             FactorReader(prepared.store, store_bytes),
                             FactorTable(prepared.store),
                             prepared.contents,
                             prepared.delta_norms};
  const AnalysisOptions options{prepared.job.solve, asked.k, asked.angles};
  AnalysisSteps steps(comm, models, options, asked.factors.empty() ? nullptr : &stored, task.journal(), log,
                      task.memory());
  task.work(steps, &steps);
}

AnalysisAsked reported(const AnalyzeJob& asked, const Prepared& prepared) {
  AnalysisAsked report;
  report.job = reported_job(prepared.job);
  report.job.erase("coef");
  report.job["k"] = asked.k;
  report.job["angles"] = asked.angles;
  report.job["tuned"] = nlohmann::ordered_json::array();
  for (const fs::path& path : asked.tuned) {
    report.tuned.push_back(path.native());
    report.job["tuned"].push_back(printable(path.native(), SIZE_MAX));
  }
  if (!asked.factors.empty()) report.job["factors"] = printable(asked.factors.native(), SIZE_MAX);
  report.k = asked.k;
  report.angles = asked.angles;
  return report;
}

}  // namespace

void check_analyze_job(const AnalyzeJob& asked) {
  if (asked.job.output.empty()) fail(ExitCode::usage, "--output is missing: where the analysis goes");
  for (const Index k : asked.k) {
    if (k < 1) {
      fail(ExitCode::usage, "--k {} is not a number of singular triplets; of full rank every share is 1", k);
    }
  }
  check_job(asked.job);
}

ExitCode analyze(const Comm& comm, const AnalyzeJob& asked, const Log& log) {
  keep_freed_memory();
  set_time_limit(asked.job.run);
  const Prepared prepared = prepare(comm, asked, log);
  TextTask task(comm, log, asked_of(asked, prepared), prepared.plan, prepared.resources);
  if (!task.begin()) return ExitCode::done;
  work(comm, asked, prepared, task, log);
  return task.conclude([&](std::vector<Record> records, const RunTotals& totals) {
    refuse_equal_models({prepared.models[base_model], prepared.models[aligned_model], {}}, records);
    const FactorEntries entries = entries_by_matrix(prepared.info);
    for (Record& record : records) {
      const auto entry = entries.find({record.key.name, record.key.matrix});
      if (entry != entries.end()) describe(*entry->second, asked.k.back(), prepared.info.k, record.spectrum);
    }
    return analysis_report(reported(asked, prepared), prepared.models[aligned_model], records, totals);
  });
}

Planned plan_analyze_job(const AnalyzeJob& asked, const PlanRequest& request, const Log& log) {
  Prepared prepared;
  prepared.job = with_earlier_seed(asked.job, [&](const Job& job) { return parameters_of(asked, job); });
  prepared.job.solve.every_k = true;
  prepared.names = names_of(asked.tuned.size());
  open_models(asked, prepared, log);
  std::vector<PlannedRun> runs = plan_ways(request, [&](const Resources& way, PlannedRun& run) {
    prepared.resources = way;
    run.plan = plan_of(asked, prepared);
    run.forecast = forecast(run.plan, prepared.models.front(), way.ranks, request.bandwidth_of(way));
    run.forecast.bytes_written = run.forecast.disk = 0;
    for (Forecast::Rank& rank : run.forecast.ranks) rank.bytes_written = 0;
  });
  Planned planned = TextTask::foresee(asked_of(asked, prepared));
  planned.runs = std::move(runs);
  planned.aligned = std::move(prepared.models.front());
  return planned;
}

}  // namespace lox
