// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/plan/forecast.hpp"
#include "lox/plan/job.hpp"

namespace lox {

/// Checks that job.output is the hardened model of job.base and job.aligned: every entry of `sample`
/// matrices (0: all) against an edit formed anew in double, by code that `harden` has no part in; every
/// copied tensor and other file byte by byte. Prints a line a failure and a summary of what was and was not
/// checked. Returns `done` or `not_certified`; throws Error(stopped) on a signal. Collective.
ExitCode verify(const Comm& comm, const Job& job, std::int64_t sample, const Log& log);

/// What that will cost on so many ranks, from headers only. Refuses what verify would refuse.
Forecast plan_verify(const Job& job, std::int64_t sample, int ranks);

}  // namespace lox
