// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/output.hpp"
#include "lox/plan/forecast.hpp"

#include <string>
#include <vector>

namespace lox {

/// What a task would do on so many ranks, and what that will cost.
struct PlannedRun {
  Resources resources;
  Plan plan;
  Forecast forecast;
  std::string refusal;  ///< why it cannot be done like this; empty: it can
};

/// What `lox plan` tells of a task with a journal.
struct Planned {
  Checkpoint aligned;                          ///< the model that the plans' items are of
  Output::State state = Output::State::fresh;  ///< in which the task would find its output
  std::vector<Room> rooms;                     ///< that the outputs need which are still to be made
  std::vector<PlannedRun> runs;                ///< as many as were asked for; at least one can be done
};

/// Ways to do a task: on how many ranks, of what memory; and bytes of files a second that all ranks together
/// move, where that is known.
struct PlanRequest {
  std::vector<Resources> ways;
  std::optional<double> bandwidth;

  double bandwidth_of(const Resources& way) const {
    return bandwidth ? *bandwidth / way.ranks : rank_bandwidth;
  }
};

/// Plans every way, by `plan`. What is refused in all ways is thrown.
template <class PlanOne>
std::vector<PlannedRun> plan_ways(const PlanRequest& request, PlanOne plan) {
  std::vector<PlannedRun> runs;
  std::optional<Error> failure;
  bool any = false;
  for (const Resources& way : request.ways) {
    PlannedRun run;
    run.resources = way;
    try {
      plan(way, run);
      any = true;
    } catch (const Error& error) {
      if (error.code() != ExitCode::bad_input) throw;
      run.refusal = error.what();
      if (!failure) failure = error;
    }
    runs.push_back(std::move(run));
  }
  if (!any && failure) throw *failure;
  return runs;
}

}  // namespace lox
