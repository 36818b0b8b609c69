// SPDX-License-Identifier: MIT
#include "lox/task/job_identity.hpp"

#include "lox/io/identity.hpp"

namespace lox {

using nlohmann::json;

const json& parameters_by_default() {
  static const json values{{"k", 6},
                           {"coef", 1.25},
                           {"svd", "krylov"},
                           {"tolerance", 1e-4},
                           {"proof", 0.5},
                           {"include", json::array()},
                           {"exclude", json::array()},
                           {"rename", json::array()},
                           {"unpaired", "refuse"},
                           {"extra_rows", "refuse"},
                           {"seed", 0U}};
  return values;
}

json changed_parameters(const json& parameters, const json& defaults) {
  json changed = json::object();
  for (const auto& [name, value] : parameters.items()) {
    const auto found = defaults.find(name);
    if (found == defaults.end() || *found != value) changed[name] = value;
  }
  return changed;
}

json identity_of_job(const std::string& task, const json& parameters, const std::vector<NamedModel>& inputs) {
  json identity{{"version", job_identity_version}, {"task", task}, {"job", changed_parameters(parameters)}};
  for (const NamedModel& input : inputs) identity[input.name] = identity_of(*input.table);
  return identity;
}

}  // namespace lox
