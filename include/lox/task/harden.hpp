// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/plan/job.hpp"
#include "lox/task/planned.hpp"

namespace lox {

/// The main job: reads two checkpoints, writes the hardened one to job.output and the report beside it. An
/// unfinished output of the same job goes on where it was left. Returns `done`, or `stopped` if a signal
/// ended it early; throws Error otherwise. Collective.
ExitCode harden(const Comm& comm, const Job& job, const Log& log);

/// What that would do and cost, from headers only. Throws what it would throw, but for room.
Planned plan_harden(const Job& asked, const PlanRequest& request, const Log& log);

}  // namespace lox
