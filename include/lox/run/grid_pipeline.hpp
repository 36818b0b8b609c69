// SPDX-License-Identifier: MIT
#pragma once
#include "lox/run/journal.hpp"
#include "lox/run/progress.hpp"
#include "lox/run/steps.hpp"

#include <vector>

namespace lox {

/// Does the items of a plan that all ranks solve together, one after the other; rank 0's journal vouches for
/// each. Adds what is done to rank 0's `counts`, and returns its records there. Ends early, on all ranks,
/// before the next item if any rank is asked to. Collective.
std::vector<Record> run_on_grid(const Comm& comm, GridSteps& steps, Journal& journal,
                                const std::vector<Item>& items, Progress& progress, Counts& counts);

}  // namespace lox
