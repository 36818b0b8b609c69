// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/plan/forecast.hpp"
#include "lox/plan/job.hpp"
#include "lox/task/pair.hpp"

namespace lox {

/// Solves the Delta of every matrix as `harden` would, and keeps job.solve.k triplets of each in a store,
/// job.output (io/factors), with a report beside it. job.coef has no meaning. An unfinished store of the same
/// job is gone on with. Returns `done`, or `stopped` if a signal ended it early. Collective.
ExitCode factor(const Comm& comm, const Job& job, const Log& log);

/// The same plan, and what it will cost.
struct PlannedFactors {
  Plan plan;
  Forecast forecast;
};
PlannedFactors plan_factor(const Job& job, const Pair& pair, const Resources& resources);

}  // namespace lox
