// SPDX-License-Identifier: MIT
#pragma once
#include "lox/cli/plan_options.hpp"
#include "lox/plan/forecast.hpp"

#include <nlohmann/json.hpp>

namespace lox {

/// What a plan costs in all, as lines on stdout. `output`: where it is written; empty: nothing is.
void print_forecast(const Forecast& forecast, const fs::path& output);

/// The same for programs: totals, and each rank's. `there`: what a rank may use, if it is known.
nlohmann::ordered_json forecast_to_json(const Forecast& forecast, const fs::path& output,
                                        std::optional<std::uint64_t> there);

/// Of a task with a journal: memory and nodes as well. With several numbers of ranks: a table of them, and a
/// line on stderr for each that cannot be.
void print_forecasts(const Planned& planned, const PlanOptions& asked, const fs::path& output);

/// The bytes that the rank with the most of them needs.
std::uint64_t most_memory(const Forecast& forecast);

}  // namespace lox
