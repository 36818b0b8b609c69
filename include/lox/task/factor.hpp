// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/plan/job.hpp"
#include "lox/task/planned.hpp"

namespace lox {

/// Solves the Delta of every matrix as `harden` would, and keeps job.solve.k triplets of each in a store,
/// job.output (io/factors), with a report beside it. job.coef has no meaning. An unfinished store of the same
/// job is gone on with. Returns `done`, or `stopped` if a signal ended it early. Collective.
ExitCode factor(const Comm& comm, const Job& job, const Log& log);

/// What that would do and cost, from headers only. Throws what it would throw, but for room.
Planned plan_factor(const Job& asked, const PlanRequest& request, const Log& log);

}  // namespace lox
