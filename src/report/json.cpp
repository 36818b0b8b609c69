// SPDX-License-Identifier: MIT
#include "lox/report/json.hpp"

#include "lox/base/error.hpp"
#include "lox/io/other_files.hpp"
#include "lox/plan/job.hpp"

#include <limits>

namespace lox {
namespace {

using json = nlohmann::ordered_json;  // for people: keys in the order of the contract

json measures_to_json(const Measures& m) {
  const Spectrum& s = m.spectrum;
  json measures{{"k", s.k},
                {"sigma", s.sigma},
                {"certificate", s.certificate.residual},
                {"orthogonality", s.certificate.orthogonality},
                {"missed", {{"epsilon", s.missed.epsilon}, {"probability", s.missed.probability}}},
                {"settled", s.settled},
                {"iterations", s.iterations},
                {"delta_norm", s.delta_norm}};
  if (s.quantisation_noise) measures["quantisation_noise"] = *s.quantisation_noise;
  measures.update(json{
      {"energy", m.energy}, {"edit_norm", m.edit.norm}, {"realised", m.realised}, {"changed", m.changed}});
  return measures;
}

void add_method(json& entry, const Spectrum& spectrum) {
  entry["method"] = method_name(spectrum.method);
  entry["where"] = where_name(spectrum.where);
}

json tensor_to_json(const TensorEntry& tensor) {
  json entry{{"name", tensor.name}, {"shape", tensor.shape}, {"dtype", tensor.dtype}};
  const Spectrum& spectrum = tensor.measures.spectrum;
  if (tensor.action != Action::copy || !tensor.batch.empty()) {
    entry.update(measures_to_json(tensor.measures));
    if (tensor.batch.empty()) add_method(entry, spectrum);
  } else if (tensor.unchanged) {
    entry["delta_norm"] = 0;
  }
  entry["action"] = action_name(tensor.action);
  if (!tensor.batch.empty()) {
    add_method(entry, spectrum);
    json matrices = json::array();
    for (const MatrixEntry& matrix : tensor.batch) {
      json one = measures_to_json(matrix.measures);
      one["action"] = action_name(matrix.action);
      add_method(one, matrix.measures.spectrum);
      matrices.push_back(std::move(one));
    }
    entry["batch"] = std::move(matrices);
  }
  entry["seconds"] = {
      {"read", tensor.timing.read}, {"svd", tensor.timing.svd}, {"write", tensor.timing.write}};
  return entry;
}

Action action_from_json(const json& text) {
  const auto name = text.get<std::string>();
  for (const Action action : {Action::edit, Action::factor}) {
    if (name == action_name(action)) return action;
  }
  return Action::copy;
}

/// A value that may be missing.
template <class Value>
void take(const json& from, const char* key, Value& value) {
  if (const auto found = from.find(key); found != from.end()) value = found->get<Value>();
}

Measures measures_from_json(const json& from) {
  Measures m;
  Spectrum& s = m.spectrum;
  m.edit.norm = from.at("edit_norm").get<double>();
  m.energy = from.at("energy").get<double>();
  m.realised = from.at("realised").get<double>();
  m.changed = from.at("changed").get<double>();
  s.delta_norm = from.at("delta_norm").get<double>();
  s.certificate.residual = from.at("certificate").get<double>();
  take(from, "orthogonality", s.certificate.orthogonality);
  take(from, "k", s.k);
  take(from, "sigma", s.sigma);
  if (from.contains("quantisation_noise")) s.quantisation_noise = from.at("quantisation_noise").get<double>();
  take(from, "settled", s.settled);
  take(from, "iterations", s.iterations);
  s.missed.epsilon = std::numeric_limits<double>::infinity();
  if (const auto missed = from.find("missed"); missed != from.end()) {
    s.missed = {missed->at("epsilon").get<double>(), missed->at("probability").get<double>()};
  }
  const auto method = from.at("method").get<std::string>();
  for (const Method known : methods) {
    if (method_name(known) == method) s.method = known;
  }
  s.where = from.at("where").get<std::string>() == where_name(Where::grid) ? Where::grid : Where::local;
  return m;
}

TensorEntry tensor_from_json(const json& from) {
  TensorEntry tensor;
  tensor.name = from.at("name").get<std::string>();
  take(from, "shape", tensor.shape);
  take(from, "dtype", tensor.dtype);
  tensor.action = action_from_json(from.at("action"));
  if (tensor.action != Action::copy) tensor.measures = measures_from_json(from);
  tensor.unchanged = tensor.action == Action::copy && from.contains("delta_norm");
  if (const auto batch = from.find("batch"); batch != from.end()) {
    for (const json& one : *batch)
      tensor.batch.push_back({action_from_json(one.at("action")), measures_from_json(one)});
  }
  if (const auto seconds = from.find("seconds"); seconds != from.end()) {
    take(*seconds, "read", tensor.timing.read);
    take(*seconds, "svd", tensor.timing.svd);
    take(*seconds, "write", tensor.timing.write);
  }
  return tensor;
}

}  // namespace

json report_to_json(const Report& report) {
  const WorkTimes& work = report.run.work;
  json tensors = json::array();
  for (const TensorEntry& tensor : report.tensors) tensors.push_back(tensor_to_json(tensor));
  json all{{"lox", report.lox}, {"job", report.job}};
  if (!report.made.is_null()) all["made"] = report.made;
  all["totals"] = {{"tensors", report.edited + report.factored + report.copied},
                   {"edited", report.edited},
                   {"factored", report.factored},
                   {"copied", report.copied},
                   {"bytes_read", report.bytes_read},
                   {"bytes_written", report.bytes_written},
                   {"seconds", report.run.seconds},
                   {"peak_rss_bytes", report.run.peak_rss_bytes},
                   {"ranks", report.run.ranks},
                   {"proof",
                    {{"fingerprint", report.proof.fingerprint},
                     {"table", report.proof.table},
                     {"bytes", report.proof.bytes}}},
                   {"rank_seconds",
                    {{"solving", work.solving},
                     {"waiting", work.waiting},
                     {"idle", work.idle},
                     {"reading", work.reading},
                     {"writing", work.writing}}},
                   {"grid_seconds",
                    {{"products", work.grid.products},
                     {"communication", work.grid.communication},
                     {"orthonormalisation", work.grid.total - work.grid.products - work.grid.communication},
                     {"redistribution", work.redistribution}}}};
  all["tensors"] = std::move(tensors);
  return all;
}

Report report_from_json(const json& from) {
  Report report;
  take(from, "lox", report.lox);
  report.job = from.at("job");
  take(from, "made", report.made);
  const json& totals = from.at("totals");
  report.edited = totals.at("edited").get<std::int64_t>();
  take(totals, "factored", report.factored);
  report.copied = totals.at("copied").get<std::int64_t>();
  take(totals, "bytes_read", report.bytes_read);
  report.bytes_written = totals.at("bytes_written").get<std::uint64_t>();
  report.run.seconds = totals.at("seconds").get<double>();
  report.run.ranks = totals.at("ranks").get<int>();
  report.run.peak_rss_bytes = totals.at("peak_rss_bytes").get<std::uint64_t>();
  if (const auto proof = totals.find("proof"); proof != totals.end()) {
    take(*proof, "fingerprint", report.proof.fingerprint);
    take(*proof, "table", report.proof.table);
    take(*proof, "bytes", report.proof.bytes);
  }
  for (const json& tensor : from.at("tensors")) report.tensors.push_back(tensor_from_json(tensor));
  return report;
}

fs::path report_file(const fs::path& path) {
  std::error_code ignored;
  const fs::path name = without_slash(path);
  fs::path beside = fs::path(name) += report_ending;
  if (fs::is_directory(path, ignored)) {
    fs::path inside = path / report_in_folder;
    if (fs::exists(inside, ignored)) return inside;
    if (fs::exists(beside, ignored)) return beside;
    fail(ExitCode::bad_input, "{}: has no report: neither {} nor {} is there; name the file that it is in",
         path, inside, beside);
  }
  if (!fs::exists(path, ignored)) fail(ExitCode::bad_input, "{}: no such file", path);
  const fs::path ending = name.extension();
  if (ending != ".h5" && ending != ".hdf5" && ending != ".safetensors") return path;
  if (!fs::exists(beside, ignored))
    fail(ExitCode::bad_input, "{}: has no report: {} is not there; name the file that it is in", path,
         beside);
  return beside;
}

Report read_report(const fs::path& path) try {
  constexpr std::uint64_t longest = std::uint64_t{4} << 30;
  return report_from_json(json::parse(read_text(path, longest)));
} catch (const nlohmann::json::exception&) {
  return {};
} catch (const Error&) {
  return {};
}

}  // namespace lox
