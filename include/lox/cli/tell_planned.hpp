// SPDX-License-Identifier: MIT
#pragma once
#include "lox/cli/plan_options.hpp"

namespace lox {

/// Prints what was planned of a task with a journal as it was asked for: for people, as JSON, or as the
/// commands that submit it. Throws Error(io) where the output has no room; a plan for people and JSON are
/// printed before. `items`: the matrices, too.
ExitCode tell_planned(const Planned& planned, const PlanOptions& asked, const Options& options,
                      const boost::program_options::variables_map& values, const fs::path& output,
                      bool items);

}  // namespace lox
