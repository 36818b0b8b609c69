// SPDX-License-Identifier: MIT
#include "lox/task/landscape.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"
#include "lox/io/factors.hpp"
#include "lox/io/quantised_model.hpp"
#include "lox/plan/landscape_plan.hpp"
#include "lox/report/landscape.hpp"
#include "lox/run/landscape_steps.hpp"
#include "lox/task/factor.hpp"
#include "lox/task/factor_choice.hpp"
#include "lox/task/journaled.hpp"
#include "lox/task/pair.hpp"
#include "lox/task/session.hpp"
#include "lox/task/text_task.hpp"

#include <cmath>
#include <deque>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using nlohmann::ordered_json;

/// All that is decided before anything is read; on every rank, but for what is said to be on rank 0.
struct Prepared {
  Resources resources;
  std::vector<Checkpoint> models;  ///< the aligned one, then the others
  std::vector<std::string> names;  ///< of them
  PlaneModels plane;
  Checkpoint store;
  FactorsInfo info;  ///< on rank 0
  Index k = 0;
  ExpectedContents contents;

  std::vector<NamedModel> named() const {
    std::vector<NamedModel> all;
    for (std::size_t i = 0; i < models.size(); ++i) all.push_back({names[i], &models[i]});
    return all;
  }
  Plan plan(std::size_t targets) const {
    return plan_landscape(named(), store, info.k, k, targets, resources);
  }
};

fs::path store_path(const LandscapeJob& job) {
  return job.factors.empty() ? fs::path(job.output + ".factors") : job.factors;
}

/// The models beside the aligned one, and what they are in the plane.
std::vector<std::pair<std::string, fs::path>> other_models(const LandscapeJob& job, PlaneModels& plane) {
  std::vector<std::pair<std::string, fs::path>> others;
  const auto add = [&](const char* name, const fs::path& path, int* place) {
    if (path.empty()) return;
    if (place != nullptr) *place = static_cast<int>(others.size());
    others.emplace_back(name, path);
  };
  add("tuned", job.tuned, &plane.tuned);
  add("hardened", job.hardened, &plane.hardened);
  add("hardened_tuned", job.hardened_tuned, &plane.hardened_tuned);
  add("base", job.base, nullptr);
  plane.random = job.random;
  plane.seed = job.seed;
  return others;
}

/// Reads the headers. Collective.
Prepared prepare(const Comm& comm, const LandscapeJob& job, const Log& log) {
  Prepared prepared;
  prepared.resources = {comm.size(), rank_memory(comm, job.run)};
  const auto others = other_models(job, prepared.plane);
  prepared.names = {"aligned"};
  for (const auto& [name, path] : others) prepared.names.push_back(name);
  on_root(comm, [&] {
    prepared.models.push_back(open_aligned(job.aligned, log));
    for (const auto& [name, path] : others) {
      prepared.models.push_back(open_aligned(path, Log(Log::Level::silent)));
    }
    for (const Checkpoint& model : prepared.models) {
      if (count_quantised(model) == 0) continue;
      fail(ExitCode::bad_input,
           "{}: is FP8, which a landscape is not made of; convert the models to BF16 first", model.path);
    }
    prepared.store = open_checkpoint(store_path(job));
    prepared.info = read_factors_info(prepared.store);
    prepared.k = job.k.value_or(prepared.info.k);
    const std::string warning = check_rank(store_path(job), prepared.info, prepared.k, true);
    if (!warning.empty()) log.warn("{}", warning);
  });
  prepared.models.resize(prepared.names.size());
  for (Checkpoint& model : prepared.models) broadcast(comm, model);
  broadcast(comm, prepared.store);
  prepared.info.k = std::stoll(comm.broadcast(std::to_string(prepared.info.k)));
  prepared.k = std::stoll(comm.broadcast(std::to_string(prepared.k)));
  prepared.contents = share_contents(comm, store_path(job), prepared.info, aligned_model);
  return prepared;
}

/// What decides the plane.
nlohmann::json parameters_of(const LandscapeJob& job, const Prepared& prepared) {
  nlohmann::json parameters{{"k", prepared.k}, {"direction", job.random ? "random" : "tuned"}};
  if (job.random) parameters["seed"] = job.seed;
  return parameters;
}

std::vector<NamedModel> inputs_of(const Prepared& prepared) {
  std::vector<NamedModel> inputs = prepared.named();
  inputs.push_back({"factors", &prepared.store});
  return inputs;
}

ordered_json reported(const LandscapeJob& job, const Prepared& prepared) {
  ordered_json report{{"k", prepared.k}, {"direction", job.random ? "random" : "tuned"}};
  if (job.random) report["seed"] = job.seed;
  for (std::size_t i = 0; i < prepared.models.size(); ++i) {
    report[prepared.names[i]] = printable(prepared.models[i].path.native(), SIZE_MAX);
  }
  report["factors"] = printable(prepared.store.path.native(), SIZE_MAX);
  report["output"] = printable(job.output, SIZE_MAX);
  return report;
}

PlaneTold told_of(const LandscapeJob& job, const Prepared& prepared) {
  PlaneTold told;
  told.job = reported(job, prepared);
  told.k = prepared.k;
  told.direction = job.random             ? "random"
                   : job.hardened.empty() ? "tuned - aligned"
                                          : "mean of tuned - aligned and hardened_tuned - hardened";
  told.others.assign(prepared.names.begin() + 1, prepared.names.end());
  return told;
}

/// The files of a run, and what reads them.
class Inputs {
 public:
  explicit Inputs(const Prepared& prepared)
      : store_(prepared.store, FileStorage::Access::read),
        factors_(prepared.store, store_),
        reader_(open(prepared), factors_, prepared.plane) {}
  const PlaneReader& reader() const { return reader_; }

 private:
  std::vector<OpenModel> open(const Prepared& prepared) {
    std::vector<OpenModel> models;
    for (std::size_t i = 0; i < prepared.models.size(); ++i) {
      storages_.emplace_back(prepared.models[i], FileStorage::Access::read);
      models.push_back({&prepared.models[i], &storages_.back(), prepared.names[i]});
    }
    return models;
  }
  std::deque<FileStorage> storages_;
  FileStorage store_;
  FactorReader factors_;
  PlaneReader reader_;
};

std::uint64_t bytes_read(const Prepared& prepared, const Item& item) {
  if (item.action == Action::copy) return item.bytes;
  std::uint64_t bytes = item.bytes;
  for (std::size_t i = 1; i < prepared.models.size(); ++i) {
    const auto tensor = static_cast<std::size_t>(item.matrix.tensors[first_other + i - 1]);
    bytes += static_cast<std::uint64_t>(item.rows.count * item.matrix.cols) *
             element_bytes(prepared.models[i].tensors[tensor].dtype);
  }
  return bytes;
}

/// Holds the aligned matrices against the store's fingerprints: those in stretches, whose sum is known now.
void check_contents(const Prepared& prepared, const std::vector<Record>& records) {
  std::map<std::pair<std::string, std::int64_t>, Content> found;
  const FactorTable table(prepared.store);
  for (const Record& record : records) {
    if (record.key.action == Action::copy || table.find(record.key.name).front() < 0) continue;
    found[{record.key.name, record.key.matrix}].add(record.aligned);
  }
  for (const auto& [key, content] : found) check_content(prepared.contents, key.first, key.second, content);
}

/// The first reading: where the models lie. Nothing if it was stopped. Collective.
std::optional<Plane> measure(const Comm& comm, const LandscapeJob& job, const Prepared& prepared,
                             const Log& log) {
  Plan plan;
  together(comm, [&] { plan = prepared.plan(0); });
  TextAsked asked;
  asked.task = "landscape";
  asked.parameters = parameters_of(job, prepared);
  asked.inputs = inputs_of(prepared);
  asked.output = job.output + ".landscape.json";
  asked.overwrite = job.overwrite;
  asked.moves = [&](const Item& item) { return bytes_read(prepared, item); };
  TextTask task(comm, log, std::move(asked), std::move(plan), prepared.resources);
  if (task.begin()) {
    {
      const Inputs inputs(prepared);
      PlaneSteps steps(inputs.reader(), prepared.contents, task.journal());
      task.work(steps, nullptr);
    }
    const ExitCode code = task.conclude([&](const std::vector<Record>& records, const RunTotals& totals) {
      check_contents(prepared, records);
      // Sorted by tensor and row: the sum does not depend on the ranks.
      std::vector<double> products(3 * prepared.models.size());
      for (const Record& record : records) {
        for (std::size_t i = 0; i < products.size(); ++i) products[i] += record.products.at(i);
      }
      return plane_to_json(told_of(job, prepared), products, totals);
    });
    if (code != ExitCode::done) return std::nullopt;
  }
  std::string text;
  on_root(comm, [&] {
    text = task.text().dump();
    for (const auto& [name, at] : task.text().at("coordinates").items()) {
      log.info("{}: a = {:.6g}, b = {:.6g}", name, at.at("a").get<double>(), at.at("b").get<double>());
    }
  });
  return plane_from_json(ordered_json::parse(comm.broadcast(text)));
}

std::vector<JournaledOutputs::Place> places_of(const LandscapeJob& job) {
  std::vector<JournaledOutputs::Place> places;
  std::set<fs::path> names;
  for (const Point& point : job.points) {
    const std::string name = replaced(job.output, "{a}", fmt::format("{}", point.a));
    Job named;
    named.output = without_slash(replaced(name, "{b}", fmt::format("{}", point.b)));
    if (!names.insert(normal_path(named.output)).second) {
      fail(ExitCode::usage, "--output '{}' gives two points one name; write {{a}} and {{b}} into it",
           job.output);
    }
    places.push_back({named.output, report_path(named)});
  }
  return places;
}

JournaledOutputs outputs_of(const LandscapeJob& job, const Prepared& prepared) {
  JournaledOutputs outputs;
  outputs.task = "landscape";
  outputs.places = places_of(job);
  nlohmann::json points = nlohmann::json::array();
  for (std::size_t i = 0; i < job.points.size(); ++i) {
    points.push_back({job.points[i].a, job.points[i].b,
                      printable(outputs.places[i].output.filename().native(), SIZE_MAX)});
  }
  outputs.parameters = parameters_of(job, prepared);
  outputs.parameters["points"] = std::move(points);
  outputs.inputs = inputs_of(prepared);
  outputs.like = &prepared.models.front();
  outputs.leading = &prepared.models.front();
  outputs.overwrite = job.overwrite;
  const std::size_t copies = job.points.size();
  outputs.moves = [&prepared, copies](const Item& item) {
    return bytes_read(prepared, item) + copies * item.bytes;
  };
  outputs.disk = prepared.models.front().bytes_with_files();
  return outputs;
}

/// The second reading: the points. Collective.
ExitCode write_points(const Comm& comm, const LandscapeJob& job, const Prepared& prepared, const Plane& plane,
                      const Log& log) {
  Plan plan;
  together(comm, [&] { plan = prepared.plan(job.points.size()); });
  JournaledTask task(comm, log, outputs_of(job, prepared), std::move(plan), prepared.resources, job.run);
  if (!task.begin()) return ExitCode::done;
  {
    const Inputs inputs(prepared);
    std::deque<FileStorage> storages;
    std::deque<Target> targets;
    std::vector<Target*> all;
    std::vector<std::pair<double, double>> shares;
    for (std::size_t t = 0; t < job.points.size(); ++t) {
      storages.emplace_back(task.tables()[t], FileStorage::Access::write);
      targets.emplace_back(static_cast<int>(t), task.tables()[t], storages.back(), Blend{});
      all.push_back(&targets.back());
      shares.push_back(plane.shares(job.points[t].a, job.points[t].b));
    }
    PointSteps steps(inputs.reader(), prepared.contents, all, std::move(shares), task.journal());
    task.work(steps, nullptr);
  }
  return task.conclude([&](const std::vector<Record>& records, const RunTotals& totals) {
    check_contents(prepared, records);
    std::vector<Record> matrices = join_stretches(records);
    const FactorEntries entries = entries_by_matrix(prepared.info);
    for (Record& record : matrices) {
      const auto entry = entries.find({record.key.name, record.key.matrix});
      if (entry != entries.end()) describe(*entry->second, prepared.k, prepared.info.k, record.spectrum);
    }
    std::vector<Report> reports;
    for (std::size_t t = 0; t < job.points.size(); ++t) {
      ordered_json about = prepared.info.job;  // how the factors were found
      about["a"] = job.points[t].a;
      about["b"] = job.points[t].b;
      about.update(reported(job, prepared));
      about["output"] = printable(task.tables()[t].path.native(), SIZE_MAX);
      reports.push_back(make_report(std::move(about), prepared.models.front(), matrices, totals, t));
    }
    return reports;
  });
}

/// Solves Delta where no store was named, and keeps the factors. Collective.
ExitCode make_store(const Comm& comm, const LandscapeJob& job, const Log& log) {
  Job solve;
  solve.base = job.base;
  solve.aligned = job.aligned;
  solve.output = store_path(job);
  solve.solve.k = job.k.value_or(solve.solve.k);
  solve.run = job.run;
  solve.overwrite = job.overwrite;
  return factor(comm, solve, log);
}

}  // namespace

void check_landscape_job(const LandscapeJob& job) {
  if (job.aligned.empty()) fail(ExitCode::usage, "--aligned is missing: the model in the middle");
  if (job.output.empty()) fail(ExitCode::usage, "--output is missing: where the points go");
  if (job.factors.empty() && (job.base.empty() || !job.k)) {
    fail(ExitCode::usage,
         "--factors is missing, or --base and --k: what the direction of hardening is made of");
  }
  if (job.k && *job.k < 1) fail(ExitCode::usage, "--k {} is not a number of triplets", *job.k);
  if (job.tuned.empty() && !job.random) {
    fail(ExitCode::usage, "--tuned is missing: the model that tells the second direction");
  }
  if (job.hardened.empty() != job.hardened_tuned.empty()) {
    fail(ExitCode::usage, "--hardened and --hardened-tuned go together: one was tuned from the other");
  }
  for (const Point& point : job.points) {
    if (!std::isfinite(point.a) || !std::isfinite(point.b)) {
      fail(ExitCode::usage, "a point at {},{} is nowhere", point.a, point.b);
    }
  }
  (void)places_of(job);
}

ExitCode landscape(const Comm& comm, const LandscapeJob& job, const Log& log) {
  keep_freed_memory();
  set_time_limit(job.run);
  if (job.factors.empty()) {
    on_root(comm, [&] {  // before hours of solving
      PlaneModels ignored;
      for (const auto& [name, path] : other_models(job, ignored))
        (void)open_aligned(path, Log(Log::Level::silent));
    });
    const ExitCode code = make_store(comm, job, log);
    if (code != ExitCode::done) return code;
  }
  const Prepared prepared = prepare(comm, job, log);
  const std::optional<Plane> plane = measure(comm, job, prepared, log);
  if (!plane) return ExitCode::stopped;
  if (job.points.empty()) return ExitCode::done;
  return write_points(comm, job, prepared, *plane, log);
}

}  // namespace lox
