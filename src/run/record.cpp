// SPDX-License-Identifier: MIT
#include "lox/run/record.hpp"

#include "lox/base/error.hpp"

#include <array>
#include <cmath>
#include <map>
#include <tuple>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using nlohmann::json;

template <class Value, std::size_t n>
Value from_name(const std::array<Value, n>& values, std::string_view (*name)(Value), const json& text) {
  const auto word = text.get<std::string>();
  for (const Value value : values) {
    if (name(value) == word) return value;
  }
  fail(ExitCode::bad_input, "'{}' is not a word of the journal", word);
}

json spectrum_to_json(const Spectrum& s) {
  json open = json::array();
  for (const Unsettled& one : s.open) open.push_back({one.k, one.gap, unsettled_name(one.why)});
  json spectrum{{"where", where_name(s.where)},
                {"method", method_name(s.method)},
                {"k", s.k},
                {"sigma", s.sigma},
                {"certificate", {s.certificate.residual, s.certificate.orthogonality}},
                {"missed", {s.missed.epsilon, s.missed.probability}},
                {"settled", s.settled},
                {"iterations", s.iterations},
                {"delta_norm", s.delta_norm},
                {"residuals", s.residuals},
                {"open", std::move(open)}};
  if (s.quantisation_noise) spectrum["quantisation_noise"] = *s.quantisation_noise;
  return spectrum;
}

Spectrum spectrum_from_json(const json& from) {
  Spectrum s;
  s.where = from_name(std::array{Where::local, Where::grid}, where_name, from.at("where"));
  s.method = from_name(methods, method_name, from.at("method"));
  s.k = from.at("k").get<std::int64_t>();
  s.sigma = from.at("sigma").get<std::vector<double>>();
  s.certificate = {from.at("certificate").at(0).get<double>(), from.at("certificate").at(1).get<double>()};
  s.missed = {from.at("missed").at(0).get<double>(), from.at("missed").at(1).get<double>()};
  s.settled = from.at("settled").get<bool>();
  s.iterations = from.at("iterations").get<int>();
  s.delta_norm = from.at("delta_norm").get<double>();
  s.residuals = from.at("residuals").get<std::vector<double>>();
  if (from.contains("quantisation_noise")) s.quantisation_noise = from.at("quantisation_noise").get<double>();
  using Why = Unsettled::Why;
  for (const json& one : from.at("open")) {
    s.open.push_back(
        {one.at(0).get<std::int64_t>(), one.at(1).get<double>(),
         from_name(std::array{Why::tie, Why::rounding, Why::unfinished}, unsettled_name, one.at(2))});
  }
  return s;
}

}  // namespace

void Edit::add(const Edit& other) {
  norm = std::hypot(norm, other.norm);
  realised_dot += other.realised_dot;
  changed += other.changed;
}

void Timing::add(const Timing& other) {
  read += other.read;
  svd += other.svd;
  write += other.write;
  bytes_read += other.bytes_read;
  bytes_written += other.bytes_written;
}

json pieces_to_json(const std::vector<Piece>& pieces) {
  json list = json::array();
  for (const Piece& p : pieces) list.push_back({p.target, p.tensor, p.first, p.bytes, p.xxh3});
  return list;
}

std::vector<Piece> pieces_from_json(const json& from) {
  std::vector<Piece> pieces;
  for (const json& p : from) {
    pieces.push_back({p.at(0).get<int>(), p.at(1).get<int>(), p.at(2).get<std::uint64_t>(),
                      p.at(3).get<std::uint64_t>(), p.at(4).get<std::uint64_t>()});
  }
  return pieces;
}

json edges_to_json(const std::vector<Edge>& edges) {
  json list = json::array();
  for (const Edge& e : edges)
    list.push_back({e.target, e.tensor, e.first, e.bytes, e.xxh3, e.run, e.rank, e.at});
  return list;
}

std::vector<Edge> edges_from_json(const json& from) {
  std::vector<Edge> edges;
  for (const json& e : from) {
    edges.push_back({e.at(0).get<int>(),
                     e.at(1).get<int>(),
                     e.at(2).get<std::uint64_t>(),
                     e.at(3).get<std::uint64_t>(),
                     e.at(4).get<std::uint64_t>(),
                     e.at(5).get<int>(),
                     e.at(6).get<int>(),
                     e.at(7).get<std::uint64_t>(),
                     {}});
  }
  return edges;
}

json record_to_json(const Record& r) {
  json edits = json::array();
  for (const Edit& edit : r.edits) edits.push_back({edit.norm, edit.realised_dot, edit.changed});
  json record{{"name", r.key.name},
              {"matrix", r.key.matrix},
              {"row", r.key.row},
              {"action", action_name(r.key.action)},
              {"entries", r.key.entries},
              {"spectrum", spectrum_to_json(r.spectrum)},
              {"edits", std::move(edits)},
              {"aligned", r.aligned.sums},
              {"seconds", {r.timing.read, r.timing.svd, r.timing.write}},
              {"bytes", {r.timing.bytes_read, r.timing.bytes_written}},
              {"pieces", pieces_to_json(r.pieces)},
              {"edges", edges_to_json(r.edges)}};
  if (r.base) record["base"] = r.base->sums;
  if (r.analysis) record["analysis"] = analysis_to_json(*r.analysis);
  if (!r.products.empty()) record["products"] = r.products;
  return record;
}

Record record_from_json(const json& from) {
  Record r;
  r.key = {from.at("name").get<std::string>(), from.at("matrix").get<std::int64_t>(),
           from_name(std::array{Action::copy, Action::edit, Action::factor, Action::analyse}, action_name,
                     from.at("action")),
           from.at("entries").get<std::int64_t>(), from.at("row").get<std::int64_t>()};
  r.spectrum = spectrum_from_json(from.at("spectrum"));
  for (const json& edit : from.at("edits")) {
    r.edits.push_back({edit.at(0).get<double>(), edit.at(1).get<double>(), edit.at(2).get<std::int64_t>()});
  }
  const json& seconds = from.at("seconds");
  const json& bytes = from.at("bytes");
  r.timing = {seconds.at(0).get<double>(), seconds.at(1).get<double>(), seconds.at(2).get<double>(),
              bytes.at(0).get<std::uint64_t>(), bytes.at(1).get<std::uint64_t>()};
  r.aligned.sums = from.at("aligned").get<std::array<std::uint64_t, 2>>();
  if (from.contains("base")) r.base = Content{from.at("base").get<std::array<std::uint64_t, 2>>()};
  r.pieces = pieces_from_json(from.at("pieces"));
  r.edges = edges_from_json(from.at("edges"));
  if (from.contains("analysis")) r.analysis = analysis_from_json(from.at("analysis"));
  if (from.contains("products")) r.products = from.at("products").get<std::vector<double>>();
  return r;
}

std::vector<Record> latest(std::vector<Record> records) {
  std::map<std::tuple<std::string, std::int64_t, std::int64_t>, std::size_t> last;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const RecordKey& key = records[i].key;
    last[{key.name, key.matrix, key.row}] = i;
  }
  std::vector<Record> kept;
  for (const auto& [key, i] : last) kept.push_back(std::move(records[i]));
  return kept;
}

std::vector<Record> join_stretches(const std::vector<Record>& stretches) {
  std::vector<Record> matrices;
  for (const Record& record : stretches) {
    const bool goes_on = !matrices.empty() && matrices.back().key.name == record.key.name &&
                         matrices.back().key.matrix == record.key.matrix;
    if (!goes_on) {
      matrices.push_back(record);
      continue;
    }
    Record& whole = matrices.back();
    whole.key.entries += record.key.entries;
    whole.aligned.add(record.aligned);
    whole.timing.add(record.timing);
    for (std::size_t t = 0; t < record.edits.size(); ++t) whole.edits[t].add(record.edits[t]);
  }
  return matrices;
}

}  // namespace lox
