// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/plan/job.hpp"
#include "lox/task/planned.hpp"

#include <vector>

namespace lox {

/// What the user asked `analyze` to do.
struct AnalyzeJob {
  Job job;  ///< its output is the JSON text; its k is the largest one; its coef and report have no meaning
  std::vector<fs::path> tuned;
  fs::path factors;      ///< a store whose triplets are taken; empty: Delta is solved
  std::vector<Index> k;  ///< rising
  bool angles = false;
};

/// Throws Error(usage) naming the option that makes no sense.
void check_analyze_job(const AnalyzeJob& job);

/// Finds spectra, shares and overlaps of subspaces (docs/analysis.md) and writes them as one JSON text. An
/// unfinished run of the same job is gone on with. Returns `done`, or `stopped` if a signal ended it early.
/// Collective.
ExitCode analyze(const Comm& comm, const AnalyzeJob& job, const Log& log);

/// What that will cost, from headers only. Refuses what analyze would refuse.
Planned plan_analyze_job(const AnalyzeJob& job, const PlanRequest& request, const Log& log);

}  // namespace lox
