// SPDX-License-Identifier: MIT
#pragma once
#include "lox/cli/command.hpp"

#include <optional>

namespace lox {

/// `lox plan convert|verify|synth|factor|apply|analyze ...`: what that command would cost, from headers only.
/// Nothing if the first argument is no such word: then `harden` is to be planned.
std::optional<ExitCode> plan_of_other_task(const Arguments& arguments);

}  // namespace lox
