// SPDX-License-Identifier: MIT
#include "lox/run/record.hpp"

#include "lox/base/error.hpp"

#include <array>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

template <class Value, std::size_t n>
Value from_name(const std::array<Value, n>& values, std::string_view (*name)(Value),
                const std::string& text) {
  for (const Value value : values) {
    if (name(value) == text) return value;
  }
  fail(ExitCode::bad_input, "'{}' is not a word of the journal", text);
}

}  // namespace

nlohmann::json pieces_to_json(const std::vector<Piece>& pieces) {
  nlohmann::json json = nlohmann::json::array();
  for (const Piece& piece : pieces) json.push_back({piece.first, piece.bytes, piece.xxh3});
  return json;
}

std::vector<Piece> pieces_from_json(const nlohmann::json& json) {
  std::vector<Piece> pieces;
  for (const nlohmann::json& piece : json) {
    pieces.push_back({piece.at(0).get<std::uint64_t>(), piece.at(1).get<std::uint64_t>(),
                      piece.at(2).get<std::uint64_t>()});
  }
  return pieces;
}

nlohmann::json record_to_json(const TensorRecord& r) {
  nlohmann::json json{{"name", r.name},
                      {"matrix", r.matrix},
                      {"action", action_name(r.action)},
                      {"seconds", {r.seconds_read, r.seconds_svd, r.seconds_write}},
                      {"bytes", {r.bytes_read, r.bytes_written}},
                      {"pieces", pieces_to_json(r.pieces)},
                      {"entries", r.entries},
                      {"k", r.k}};
  if (r.action == Action::edit) {
    json["method"] = method_name(r.method);
    json["where"] = where_name(r.where);
    json["sigma"] = r.sigma;
    json["certificate"] = {r.certificate.residual, r.certificate.orthogonality};
    json["missed"] = {r.missed.epsilon, r.missed.probability};
    json["settled"] = r.settled;
    json["iterations"] = r.iterations;
    json["delta_norm"] = r.delta_norm;
    json["edit_norm"] = r.edit_norm;
    json["realised_dot"] = r.realised_dot;
    json["changed"] = r.changed;
  }
  return json;
}

TensorRecord record_from_json(const nlohmann::json& json) {
  TensorRecord r;
  r.name = json.at("name").get<std::string>();
  r.matrix = json.at("matrix").get<std::int64_t>();
  r.action =
      from_name(std::array{Action::copy, Action::edit}, action_name, json.at("action").get<std::string>());
  r.entries = json.at("entries").get<std::int64_t>();
  r.k = json.at("k").get<std::int64_t>();
  r.seconds_read = json.at("seconds").at(0).get<double>();
  r.seconds_svd = json.at("seconds").at(1).get<double>();
  r.seconds_write = json.at("seconds").at(2).get<double>();
  r.bytes_read = json.at("bytes").at(0).get<std::uint64_t>();
  r.bytes_written = json.at("bytes").at(1).get<std::uint64_t>();
  r.pieces = pieces_from_json(json.at("pieces"));
  if (r.action == Action::copy) return r;
  r.method = from_name(std::array{Method::krylov, Method::exact, Method::full}, method_name,
                       json.at("method").get<std::string>());
  r.where = from_name(std::array{Where::local, Where::grid}, where_name, json.at("where").get<std::string>());
  r.sigma = json.at("sigma").get<std::vector<double>>();
  r.certificate = {json.at("certificate").at(0).get<double>(), json.at("certificate").at(1).get<double>()};
  r.missed = {json.at("missed").at(0).get<double>(), json.at("missed").at(1).get<double>()};
  r.settled = json.at("settled").get<bool>();
  r.iterations = json.at("iterations").get<int>();
  r.delta_norm = json.at("delta_norm").get<double>();
  r.edit_norm = json.at("edit_norm").get<double>();
  r.realised_dot = json.at("realised_dot").get<double>();
  r.changed = json.at("changed").get<std::int64_t>();
  return r;
}

}  // namespace lox
