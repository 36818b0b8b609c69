// SPDX-License-Identifier: MIT
#include "lox/task/landscape.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"
#include "lox/io/output_place.hpp"
#include "lox/report/landscape.hpp"
#include "lox/run/landscape_steps.hpp"
#include "lox/task/factor.hpp"
#include "lox/task/journaled.hpp"
#include "lox/task/landscape_models.hpp"
#include "lox/task/pair.hpp"
#include "lox/task/session.hpp"
#include "lox/task/text_task.hpp"

#include <cmath>
#include <deque>
#include <set>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using nlohmann::ordered_json;

/// What decides the plane.
nlohmann::json parameters_of(const LandscapeJob& job, const LandscapeModels& opened) {
  nlohmann::json parameters{{"k", opened.k}, {"direction", job.random ? "random" : "tuned"}};
  if (job.random) parameters["seed"] = job.seed;
  return parameters;
}

std::vector<NamedModel> inputs_of(const LandscapeModels& opened) {
  std::vector<NamedModel> inputs = opened.named();
  inputs.push_back({"factors", &opened.store});
  return inputs;
}

ordered_json reported(const LandscapeJob& job, const LandscapeModels& opened) {
  ordered_json report{{"k", opened.k}, {"direction", job.random ? "random" : "tuned"}};
  if (job.random) report["seed"] = job.seed;
  for (std::size_t i = 0; i < opened.models.size(); ++i) {
    report[opened.names[i]] = printable(opened.models[i].path.native(), SIZE_MAX);
  }
  report["factors"] = printable(opened.store.path.native(), SIZE_MAX);
  report["output"] = printable(job.output, SIZE_MAX);
  return report;
}

PlaneTold told_of(const LandscapeJob& job, const LandscapeModels& opened) {
  PlaneTold told;
  told.job = reported(job, opened);
  told.k = opened.k;
  told.direction = job.random             ? "random"
                   : job.hardened.empty() ? "tuned - aligned"
                                          : "mean of tuned - aligned and hardened_tuned - hardened";
  told.others.assign(opened.names.begin() + 1, opened.names.end());
  return told;
}

/// The first reading: where the models lie. Nothing if it was stopped. Collective.
std::optional<Plane> measure(const Comm& comm, const LandscapeJob& job, const LandscapeModels& opened,
                             const Log& log) {
  Plan plan;
  together(comm, [&] { plan = opened.plan(0); });
  TextAsked asked;
  asked.task = "landscape";
  asked.parameters = parameters_of(job, opened);
  asked.inputs = inputs_of(opened);
  asked.output = job.output + ".landscape.json";
  asked.overwrite = job.overwrite;
  asked.moves = [&](const Item& item) { return opened.bytes_read(item); };
  TextTask task(comm, log, std::move(asked), std::move(plan), opened.resources);
  if (task.begin()) {
    {
      const LandscapeFiles inputs(opened);
      PlaneSteps steps(inputs.reader(), opened.contents, task.journal());
      task.work(steps, nullptr);
    }
    const ExitCode code = task.conclude([&](const std::vector<Record>& records, const RunTotals& totals) {
      opened.check_contents(records);
      // Sorted by tensor and row: the sum does not depend on the ranks.
      std::vector<double> products(3 * opened.models.size());
      for (const Record& record : records) {
        for (std::size_t i = 0; i < products.size(); ++i) products[i] += record.products.at(i);
      }
      return plane_to_json(told_of(job, opened), products, totals);
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

JournaledOutputs outputs_of(const LandscapeJob& job, const LandscapeModels& opened) {
  JournaledOutputs outputs;
  outputs.task = "landscape";
  outputs.places = places_of(job);
  nlohmann::json points = nlohmann::json::array();
  for (std::size_t i = 0; i < job.points.size(); ++i) {
    points.push_back({job.points[i].a, job.points[i].b,
                      printable(outputs.places[i].output.filename().native(), SIZE_MAX)});
  }
  outputs.parameters = parameters_of(job, opened);
  outputs.parameters["points"] = std::move(points);
  outputs.inputs = inputs_of(opened);
  outputs.like = &opened.models.front();
  outputs.leading = &opened.models.front();
  outputs.overwrite = job.overwrite;
  const std::size_t copies = job.points.size();
  outputs.moves = [&opened, copies](const Item& item) {
    return opened.bytes_read(item) + copies * item.bytes;
  };
  outputs.disk = opened.models.front().bytes_with_files();
  return outputs;
}

/// The second reading: the points. Collective.
ExitCode write_points(const Comm& comm, const LandscapeJob& job, const LandscapeModels& opened,
                      const Plane& plane, const Log& log) {
  Plan plan;
  together(comm, [&] { plan = opened.plan(job.points.size()); });
  JournaledTask task(comm, log, outputs_of(job, opened), std::move(plan), opened.resources, job.run);
  if (!task.begin()) return ExitCode::done;
  {
    const LandscapeFiles inputs(opened);
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
    PointSteps steps(inputs.reader(), opened.contents, all, std::move(shares), task.journal());
    task.work(steps, nullptr);
  }
  return task.conclude([&](const std::vector<Record>& records, const RunTotals& totals) {
    opened.check_contents(records);
    std::vector<Record> matrices = join_stretches(records);
    const FactorEntries entries = entries_by_matrix(opened.info);
    for (Record& record : matrices) {
      const auto entry = entries.find({record.key.name, record.key.matrix});
      if (entry != entries.end()) describe(*entry->second, opened.k, opened.info.k, record.spectrum);
    }
    std::vector<Report> reports;
    for (std::size_t t = 0; t < job.points.size(); ++t) {
      ordered_json about = opened.info.job;  // how the factors were found
      about["a"] = job.points[t].a;
      about["b"] = job.points[t].b;
      about.update(reported(job, opened));
      about["output"] = printable(task.tables()[t].path.native(), SIZE_MAX);
      reports.push_back(make_report(std::move(about), opened.models.front(), matrices, totals, t));
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

/// What would be refused after hours of solving is refused before them.
void check_before_solving(const LandscapeJob& job) {
  PlaneModels ignored;
  (void)open_in_plane(job.aligned, Log(Log::Level::silent));
  OutputRules rules{job.overwrite, {job.aligned}};
  for (const auto& [name, path] : other_models(job, ignored)) {
    (void)open_in_plane(path, Log(Log::Level::silent));
    rules.inputs.push_back(path);
  }
  if (is_there(store_path(job))) return;  // nothing is solved, and the points may be finished as well
  for (const auto& place : places_of(job)) check_output(place.output, rules);
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
    on_root(comm, [&] { check_before_solving(job); });
    const ExitCode code = make_store(comm, job, log);
    if (code != ExitCode::done) return code;
  }
  const LandscapeModels opened = open_landscape(comm, job, log);
  const std::optional<Plane> plane = measure(comm, job, opened, log);
  if (!plane) return ExitCode::stopped;
  if (job.points.empty()) return ExitCode::done;
  return write_points(comm, job, opened, *plane, log);
}

}  // namespace lox
