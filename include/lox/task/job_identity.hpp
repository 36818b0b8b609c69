// SPDX-License-Identifier: MIT
#pragma once
#include "lox/plan/pairing.hpp"

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace lox {

/// The form of a job's identity. A new number makes every unfinished output another job's, so it changes only
/// with what the entries mean, never because a parameter is added.
inline constexpr int job_identity_version = 1;

/// What a job does that gives no value to a parameter: the entries stand for good. A new parameter gets an
/// entry that says what lox did before there was one; another default for an old one changes nothing here.
const nlohmann::json& parameters_by_default();

/// The parameters that differ from the defaults.
nlohmann::json changed_parameters(const nlohmann::json& parameters,
                                  const nlohmann::json& defaults = parameters_by_default());

/// What makes two jobs the same: the task, the parameters that decide the numbers, and the inputs.
nlohmann::json identity_of_job(const std::string& task, const nlohmann::json& parameters,
                               const std::vector<NamedModel>& inputs);

}  // namespace lox
