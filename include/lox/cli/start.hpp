// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/mpi.hpp"

#include <optional>

#include <nlohmann/json_fwd.hpp>

namespace lox {

/// Where the ranks of a job meet for the first time, each with what its own words and job file ask for
/// (Options::asked), or with the `failure` of reading them. Returns if all were asked the same; else all
/// throw SharedError, which names the rank and what is wrong or different there. Collective.
void agree_on_start(const Comm& comm, const nlohmann::ordered_json& asked,
                    const std::optional<Error>& failure);

}  // namespace lox
