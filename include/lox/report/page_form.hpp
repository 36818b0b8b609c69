// SPDX-License-Identifier: MIT
#pragma once
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace lox {

/// Brings a report or an analysis that nobody vouches for into the form that the page's scripts rely on: what
/// a page shows stays, if it has its type; all else goes. `report` is an object whose `tensors` are objects.
/// Returns a line for each key of which something that has another type than lox writes was left out.
std::vector<std::string> to_page_form(nlohmann::json& report);

}  // namespace lox
