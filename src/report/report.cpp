// SPDX-License-Identifier: MIT
#include "lox/report/report.hpp"

#include "lox/base/version.hpp"
#include "lox/io/identity.hpp"

#include <algorithm>
#include <cmath>
#include <unordered_map>

namespace lox {
namespace {

double energy_of(const Spectrum& spectrum) {
  double sum = 0;
  for (const double s : spectrum.sigma) sum += s * s;
  if (spectrum.method == Method::full) return 1;
  return spectrum.delta_norm > 0 ? sum / (spectrum.delta_norm * spectrum.delta_norm) : 0;
}

double share(std::int64_t part, std::int64_t all) {
  return static_cast<double>(part) / static_cast<double>(std::max<std::int64_t>(all, 1));
}

double realised_of(const Edit& edit) {
  return edit.norm > 0 ? edit.realised_dot / (edit.norm * edit.norm) : 0;
}

Measures measure(const Record& record, std::size_t target) {
  Measures m;
  m.spectrum = record.spectrum;
  if (target < record.edits.size()) m.edit = record.edits[target];
  m.energy = energy_of(m.spectrum);
  m.realised = realised_of(m.edit);
  m.changed = share(m.edit.changed, record.key.entries);
  return m;
}

/// Sums and worst cases of a batch of matrices, and each one's own numbers.
void measure_batch(const std::vector<const Record*>& batch, std::size_t target, TensorEntry& entry) {
  Measures all;
  all.spectrum.where = batch.front()->spectrum.where;
  all.spectrum.method = batch.front()->spectrum.method;
  all.spectrum.k = batch.front()->spectrum.k;
  double delta_squared = 0;
  double kept_squared = 0;
  double edit_squared = 0;
  double noise_squared = 0;
  bool quantised = false;
  std::int64_t entries = 0;
  for (const Record* record : batch) {
    const Measures one = measure(*record, target);
    entry.batch.push_back({record->key.action, one});
    if (record->key.action != Action::copy) entry.action = record->key.action;
    const Spectrum& s = one.spectrum;
    delta_squared += s.delta_norm * s.delta_norm;
    noise_squared += std::pow(s.quantisation_noise.value_or(0), 2);
    quantised = quantised || s.quantisation_noise;
    kept_squared += one.energy * s.delta_norm * s.delta_norm;
    edit_squared += one.edit.norm * one.edit.norm;
    all.edit.realised_dot += one.edit.realised_dot;
    all.edit.changed += one.edit.changed;
    Certificate& certificate = all.spectrum.certificate;
    certificate.residual = std::max(certificate.residual, s.certificate.residual);
    certificate.orthogonality = std::max(certificate.orthogonality, s.certificate.orthogonality);
    all.spectrum.missed.epsilon = std::max(all.spectrum.missed.epsilon, s.missed.epsilon);
    all.spectrum.missed.probability += s.missed.probability;  // that any of them lacks one
    all.spectrum.settled = all.spectrum.settled && s.settled;
    all.spectrum.iterations = std::max(all.spectrum.iterations, s.iterations);
    entries += record->key.entries;
  }
  all.spectrum.delta_norm = std::sqrt(delta_squared);
  if (quantised) all.spectrum.quantisation_noise = std::sqrt(noise_squared);
  all.edit.norm = std::sqrt(edit_squared);
  all.energy = delta_squared > 0 ? kept_squared / delta_squared : 0;
  all.realised = realised_of(all.edit);
  all.changed = share(all.edit.changed, entries);
  entry.measures = std::move(all);
}

}  // namespace

Report make_report(nlohmann::ordered_json job, const Checkpoint& model, const std::vector<Record>& records,
                   const RunTotals& run, std::size_t target) {
  Report report;
  report.lox = version();
  report.job = std::move(job);
  report.run = run;
  std::unordered_map<std::string, std::vector<const Record*>> by_name;
  for (const Record& record : records) {
    by_name[record.key.name].push_back(&record);
    report.bytes_read += record.timing.bytes_read;
    report.bytes_written += record.timing.bytes_written;
  }
  for (const TensorInfo& tensor : model.tensors) {
    const auto found = by_name.find(tensor.name);
    if (found == by_name.end()) continue;
    std::vector<const Record*>& batch = found->second;
    std::sort(batch.begin(), batch.end(),
              [](const auto* x, const auto* y) { return x->key.matrix < y->key.matrix; });
    TensorEntry entry{tensor.name, tensor.shape, std::string(dtype_name(tensor.dtype)), {}, {}, {}, {}, {}};
    for (const Record* record : batch) entry.timing.add(record->timing);
    if (tensor.shape.size() > 2 && batch.front()->spectrum.k > 0) {
      measure_batch(batch, target, entry);
    } else {
      entry.action = batch.front()->key.action;
      entry.measures = measure(*batch.front(), target);
      const Spectrum& spectrum = entry.measures.spectrum;
      entry.unchanged = entry.action == Action::copy && spectrum.k > 0 && spectrum.delta_norm == 0;
    }
    std::int64_t& count = entry.action == Action::edit     ? report.edited
                          : entry.action == Action::factor ? report.factored
                                                           : report.copied;
    ++count;
    report.tensors.push_back(std::move(entry));
  }
  return report;
}

bool is_of(const Report& report, const Checkpoint& output) {
  if (report.proof.fingerprint.empty())
    return report.tensors.size() == output.tensors.size();  // an older report
  return report.proof.table == table_checksum(output) && report.proof.bytes == output.bytes();
}

}  // namespace lox
