// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

#include <string>

#include <nlohmann/json_fwd.hpp>

namespace lox {

/// One of the model's other files, such as config.json; an empty object if there is none, or if it holds no
/// JSON object.
nlohmann::json read_json_of(const Checkpoint& model, const std::string& name);

/// Throws Error(bad_input) if the model is quantised (by its config.json or its dtypes): editing such bytes
/// without their scales would be silently wrong.
void refuse_quantised(const Checkpoint& model);

}  // namespace lox
