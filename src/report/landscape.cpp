// SPDX-License-Identifier: MIT
#include "lox/report/landscape.hpp"

#include "lox/base/error.hpp"
#include "lox/base/version.hpp"

namespace lox {
namespace {

using nlohmann::ordered_json;

void check_plane(const Plane& plane) {
  if (!(plane.along_norm > 0)) {
    fail(ExitCode::bad_input, "the factors are all zero: there is no direction of hardening to go along");
  }
  if (!(plane.direction_norm > 0)) {
    fail(ExitCode::bad_input, "the tuned model does not differ from the aligned one: it tells no direction");
  }
  if (!(plane.across_norm > 1e-7 * plane.direction_norm)) {
    fail(ExitCode::bad_input,
         "the tuned model differs from the aligned one by a multiple of Delta_k alone: both directions are "
         "the "
         "same, and span no plane");
  }
}

}  // namespace

ordered_json plane_to_json(const PlaneTold& told, const std::vector<double>& products,
                           const RunTotals& totals) {
  const Plane plane = plane_of(products);
  check_plane(plane);
  ordered_json coordinates;
  ordered_json distances;
  coordinates["aligned"] = {{"a", 0.0}, {"b", 0.0}};
  for (std::size_t i = 0; i < told.others.size(); ++i) {
    const std::size_t at = 3 + 3 * i;
    const Plane::Position p = plane.position(products.at(at), products.at(at + 1), products.at(at + 2));
    coordinates[told.others[i]] = {{"a", p.a}, {"b", p.b}};
    distances[told.others[i]] = {{"from_aligned", p.distance}, {"from_plane", p.outside}};
  }
  return {
      {"lox", version()},
      {"job", told.job},
      {"directions",
       {{"d1", {{"of", "Delta_k"}, {"k", told.k}, {"norm", plane.along_norm}}},
        {"d2",
         {{"of", told.direction},
          {"norm", plane.direction_norm},
          {"along_d1", plane.direction_along},
          {"across_d1", plane.across_norm}}}}},
      {"coordinates", std::move(coordinates)},
      {"distances", std::move(distances)},
      {"totals",
       {{"seconds", totals.seconds}, {"peak_rss_bytes", totals.peak_rss_bytes}, {"ranks", totals.ranks}}}};
}

Plane plane_from_json(const ordered_json& text) {
  const ordered_json& directions = text.at("directions");
  const ordered_json& d2 = directions.at("d2");
  return {directions.at("d1").at("norm").get<double>(), d2.at("norm").get<double>(),
          d2.at("along_d1").get<double>(), d2.at("across_d1").get<double>()};
}

}  // namespace lox
