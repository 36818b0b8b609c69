// SPDX-License-Identifier: MIT
#include "lox/task/landscape_models.hpp"

#include "lox/base/error.hpp"
#include "lox/io/quantised_model.hpp"
#include "lox/plan/landscape_plan.hpp"
#include "lox/task/pair.hpp"
#include "lox/task/session.hpp"

#include <map>

namespace lox {

std::vector<NamedModel> LandscapeModels::named() const {
  std::vector<NamedModel> all;
  for (std::size_t i = 0; i < models.size(); ++i) all.push_back({names[i], &models[i]});
  return all;
}

Plan LandscapeModels::plan(std::size_t targets) const {
  return plan_landscape(named(), store, info.k, k, targets, resources);
}

std::uint64_t LandscapeModels::bytes_read(const Item& item) const {
  if (item.action == Action::copy) return item.bytes;
  std::uint64_t bytes = item.bytes;
  for (std::size_t i = 1; i < models.size(); ++i) {
    const auto tensor = static_cast<std::size_t>(item.matrix.tensors[first_other + i - 1]);
    bytes += static_cast<std::uint64_t>(item.rows.count * item.matrix.cols) *
             element_bytes(models[i].tensors[tensor].dtype);
  }
  return bytes;
}

void LandscapeModels::check_contents(const std::vector<Record>& records) const {
  std::map<std::pair<std::string, std::int64_t>, Content> found;
  const FactorTable table(store);
  for (const Record& record : records) {
    if (record.key.action == Action::copy || table.find(record.key.name).front() < 0) continue;
    found[{record.key.name, record.key.matrix}].add(record.aligned);
  }
  for (const auto& [key, content] : found) check_content(contents, key.first, key.second, content);
}

fs::path store_path(const LandscapeJob& job) {
  return job.factors.empty() ? fs::path(job.output + ".factors") : job.factors;
}

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

Checkpoint open_in_plane(const fs::path& path, const Log& log) {
  Checkpoint model = open_aligned(path, log);
  if (count_quantised(model) > 0) {
    fail(ExitCode::bad_input,
         "{}: is FP8, which a landscape is not made of; convert the models to BF16 first", model.path);
  }
  return model;
}

LandscapeModels open_landscape(const Comm& comm, const LandscapeJob& job, const Log& log) {
  LandscapeModels opened;
  opened.resources = {comm.size(), rank_memory(comm, job.run)};
  const auto others = other_models(job, opened.plane);
  opened.names = {"aligned"};
  for (const auto& [name, path] : others) opened.names.push_back(name);
  on_root(comm, [&] {
    opened.models.push_back(open_in_plane(job.aligned, log));
    for (const auto& [name, path] : others)
      opened.models.push_back(open_in_plane(path, Log(Log::Level::silent)));
    opened.store = open_checkpoint(store_path(job));
    opened.info = read_factors_info(opened.store);
    opened.k = job.k.value_or(opened.info.k);
    const std::string warning = check_rank(store_path(job), opened.info, opened.k, true);
    if (!warning.empty()) log.warn("{}", warning);
  });
  opened.models.resize(opened.names.size());
  for (Checkpoint& model : opened.models) broadcast(comm, model);
  broadcast(comm, opened.store);
  opened.info.k = std::stoll(comm.broadcast(std::to_string(opened.info.k)));
  opened.k = std::stoll(comm.broadcast(std::to_string(opened.k)));
  opened.contents = share_contents(comm, store_path(job), opened.info, aligned_model);
  return opened;
}

LandscapeFiles::LandscapeFiles(const LandscapeModels& opened)
    : store_(opened.store, FileStorage::Access::read),
      factors_(opened.store, store_),
      reader_(open(opened), factors_, opened.plane) {}

std::vector<OpenModel> LandscapeFiles::open(const LandscapeModels& opened) {
  std::vector<OpenModel> models;
  for (std::size_t i = 0; i < opened.models.size(); ++i) {
    storages_.emplace_back(opened.models[i], FileStorage::Access::read);
    models.push_back({&opened.models[i], &storages_.back(), opened.names[i]});
  }
  return models;
}

}  // namespace lox
