// SPDX-License-Identifier: MIT
#include "lox/run/report.hpp"

#include "lox/base/error.hpp"
#include "lox/base/version.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <unordered_map>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using json = nlohmann::ordered_json;  // for people: keys in the order of the contract

double energy(const TensorRecord& r) {
  double sum = 0;
  for (const double s : r.sigma) sum += s * s;
  if (r.method == Method::full) return 1;
  return r.delta_norm > 0 ? sum / (r.delta_norm * r.delta_norm) : 0;
}

double realised(const TensorRecord& r) {
  return r.edit_norm > 0 ? r.realised_dot / (r.edit_norm * r.edit_norm) : 0;
}

json numbers(const TensorRecord& r) {
  return {{"k", r.k},
          {"sigma", r.sigma},
          {"certificate", r.certificate.residual},
          {"orthogonality", r.certificate.orthogonality},
          {"missed", {{"epsilon", r.missed.epsilon}, {"probability", r.missed.probability}}},
          {"settled", r.settled},
          {"iterations", r.iterations},
          {"delta_norm", r.delta_norm},
          {"energy", energy(r)},
          {"edit_norm", r.edit_norm},
          {"realised", realised(r)},
          {"changed",
           static_cast<double>(r.changed) / static_cast<double>(std::max<std::int64_t>(r.entries, 1))}};
}

json seconds(double read, double svd, double write) {
  return {{"read", read}, {"svd", svd}, {"write", write}};
}

/// One entry for a batch of matrices: sums and worst cases, and each matrix's own numbers under "batch".
json batch_entry(const std::vector<const TensorRecord*>& batch) {
  json matrices = json::array();
  TensorRecord all = *batch.front();
  all.sigma.clear();
  double delta_squared = 0;
  double kept_squared = 0;
  double edit_squared = 0;
  all.certificate = {};
  all.missed = {};
  all.settled = true;
  all.realised_dot = all.seconds_read = all.seconds_svd = all.seconds_write = 0;
  all.changed = all.entries = all.iterations = 0;
  for (const TensorRecord* r : batch) {
    json matrix = numbers(*r);
    matrix["action"] = action_name(r->action);
    matrix["method"] = method_name(r->method);
    matrix["where"] = where_name(r->where);
    matrices.push_back(std::move(matrix));
    if (r->action == Action::edit) all.action = Action::edit;
    delta_squared += r->delta_norm * r->delta_norm;
    kept_squared += energy(*r) * r->delta_norm * r->delta_norm;
    edit_squared += r->edit_norm * r->edit_norm;
    all.realised_dot += r->realised_dot;
    all.certificate.residual = std::max(all.certificate.residual, r->certificate.residual);
    all.certificate.orthogonality = std::max(all.certificate.orthogonality, r->certificate.orthogonality);
    all.missed.epsilon = std::max(all.missed.epsilon, r->missed.epsilon);
    all.missed.probability += r->missed.probability;  // that any of them lacks one
    all.settled = all.settled && r->settled;
    all.iterations = std::max(all.iterations, r->iterations);
    all.changed += r->changed;
    all.entries += r->entries;
    all.seconds_read += r->seconds_read;
    all.seconds_svd += r->seconds_svd;
    all.seconds_write += r->seconds_write;
  }
  all.delta_norm = std::sqrt(delta_squared);
  all.edit_norm = std::sqrt(edit_squared);
  json entry = numbers(all);
  entry["energy"] = delta_squared > 0 ? kept_squared / delta_squared : 0;
  entry["action"] = action_name(all.action);
  entry["method"] = method_name(all.method);
  entry["where"] = where_name(all.where);
  entry["batch"] = std::move(matrices);
  entry["seconds"] = seconds(all.seconds_read, all.seconds_svd, all.seconds_write);
  return entry;
}

json single_entry(const TensorRecord& r) {
  json entry = json::object();
  if (r.action == Action::edit) {
    entry = numbers(r);
    entry["method"] = method_name(r.method);
    entry["where"] = where_name(r.where);
  } else if (r.delta_norm == 0 && r.k > 0) {
    entry["delta_norm"] = 0;
  }
  entry["action"] = action_name(r.action);
  entry["seconds"] = seconds(r.seconds_read, r.seconds_svd, r.seconds_write);
  return entry;
}

}  // namespace

json make_report(const Job& job, const Checkpoint& model, const std::vector<TensorRecord>& records,
                 const RunTotals& totals) {
  std::unordered_map<std::string, std::vector<const TensorRecord*>> by_name;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  for (const TensorRecord& record : records) {
    by_name[record.name].push_back(&record);
    bytes_read += record.bytes_read;
    bytes_written += record.bytes_written;
  }
  json tensors = json::array();
  std::int64_t edited = 0;
  for (const TensorInfo& tensor : model.tensors) {
    auto found = by_name.find(tensor.name);
    if (found == by_name.end()) continue;
    std::vector<const TensorRecord*>& batch = found->second;
    std::sort(batch.begin(), batch.end(), [](const auto* x, const auto* y) { return x->matrix < y->matrix; });
    json entry{{"name", tensor.name}, {"shape", tensor.shape}, {"dtype", dtype_name(tensor.dtype)}};
    entry.update(tensor.shape.size() > 2 && batch.front()->k > 0 ? batch_entry(batch)
                                                                 : single_entry(*batch.front()));
    edited += entry["action"] == action_name(Action::edit) ? 1 : 0;
    tensors.push_back(std::move(entry));
  }
  json parameters = json::parse(job_parameters(job).dump());
  parameters["base"] = printable(job.base.string(), SIZE_MAX);
  parameters["aligned"] = printable(job.aligned.string(), SIZE_MAX);
  parameters["output"] = printable(job.output.string(), SIZE_MAX);
  const auto count = static_cast<std::int64_t>(tensors.size());
  return {{"lox", version()},
          {"job", parameters},
          {"totals",
           {{"tensors", count},
            {"edited", edited},
            {"copied", count - edited},
            {"bytes_read", bytes_read},
            {"bytes_written", bytes_written},
            {"seconds", totals.seconds},
            {"peak_rss_bytes", totals.peak_rss_bytes},
            {"ranks", totals.ranks},
            {"rank_seconds",
             {{"solving", totals.work.solving},
              {"waiting", totals.work.waiting},
              {"idle", totals.work.idle},
              {"reading", totals.work.reading},
              {"writing", totals.work.writing}}},
            {"grid_seconds",
             {{"products", totals.work.grid.products},
              {"communication", totals.work.grid.communication},
              {"orthonormalisation",
               totals.work.grid.total - totals.work.grid.products - totals.work.grid.communication},
              {"redistribution", totals.work.redistribution}}}}},
          {"tensors", std::move(tensors)}};
}

std::uint64_t peak_rss_bytes() {
  // Not getrusage: its maximum survives exec, and so may be that of whoever started the program.
  std::ifstream file("/proc/self/status");
  std::string word;
  while (file >> word) {
    std::uint64_t kib = 0;
    if (word == "VmHWM:" && file >> kib) return kib * 1024;
  }
  return 0;
}

}  // namespace lox
