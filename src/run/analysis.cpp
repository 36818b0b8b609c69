// SPDX-License-Identifier: MIT
#include "lox/run/analysis.hpp"

#include <nlohmann/json.hpp>

namespace lox {

using nlohmann::json;

json analysis_to_json(const Analysis& analysis) {
  json tuned = json::array();
  for (const TunedMatrix& t : analysis.tuned) {
    tuned.push_back({t.delta_norm, t.share, t.overlap_left, t.overlap_right, t.angles_left, t.angles_right});
  }
  return {{"weight_norm", analysis.weight_norm}, {"tuned", std::move(tuned)}};
}

Analysis analysis_from_json(const json& from) {
  using List = std::vector<double>;
  Analysis analysis;
  analysis.weight_norm = from.at("weight_norm").get<double>();
  for (const json& t : from.at("tuned")) {
    analysis.tuned.push_back({t.at(0).get<double>(), t.at(1).get<List>(), t.at(2).get<List>(),
                              t.at(3).get<List>(), t.at(4).get<std::vector<List>>(),
                              t.at(5).get<std::vector<List>>()});
  }
  return analysis;
}

}  // namespace lox
