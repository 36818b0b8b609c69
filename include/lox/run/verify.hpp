// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/plan/job.hpp"

namespace lox {

/// Checks that job.output is the hardened model of job.base and job.aligned: `sample` matrices (0: all)
/// against an exact SVD and an edit in double precision that share no code with `harden`, every copied tensor
/// byte by byte. Prints a line a failure and a summary. Returns `done` or `not_certified`. Collective.
ExitCode verify(const Comm& comm, const Job& job, std::int64_t sample, const Log& log);

}  // namespace lox
