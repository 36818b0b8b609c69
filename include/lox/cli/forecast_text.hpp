// SPDX-License-Identifier: MIT
#pragma once
#include "lox/plan/forecast.hpp"

#include <nlohmann/json.hpp>

namespace lox {

/// What a plan costs in all, as lines on stdout. `there`: what a rank may use, if it is known.
void print_forecast(const Forecast& forecast, std::optional<std::uint64_t> there);

/// The same for programs: totals, and each rank's.
nlohmann::ordered_json forecast_to_json(const Forecast& forecast, std::optional<std::uint64_t> there);

}  // namespace lox
