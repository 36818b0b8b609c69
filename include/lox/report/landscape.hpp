// SPDX-License-Identifier: MIT
#pragma once
#include "lox/report/report.hpp"
#include "lox/run/plane.hpp"

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace lox {

/// What is told of a plane beside its numbers.
struct PlaneTold {
  nlohmann::ordered_json job;       ///< parameters and paths, by option names
  Index k = 0;                      ///< triplets that make d1
  std::string direction;            ///< what d2 is made of
  std::vector<std::string> others;  ///< models beside the aligned one, in the order of the products
};

/// The plane as JSON (docs/formats.md): its directions, and where the models lie. `products`: sums of
/// plane_products() over the whole model. Throws Error(bad_input) if the directions span no plane.
nlohmann::ordered_json plane_to_json(const PlaneTold& told, const std::vector<double>& products,
                                     const RunTotals& totals);

/// The plane that such a text tells.
Plane plane_from_json(const nlohmann::ordered_json& text);

}  // namespace lox
