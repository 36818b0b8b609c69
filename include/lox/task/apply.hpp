// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/plan/forecast.hpp"
#include "lox/plan/job.hpp"
#include "lox/run/target.hpp"

#include <string>
#include <vector>

namespace lox {

/// What the user asked `apply` to do.
struct ApplyJob {
  fs::path aligned;
  fs::path factors;
  std::string output;    ///< with {k} and {coef} where there are several of them
  std::vector<Index> k;  ///< empty: all triplets that the store has
  std::vector<double> coef;
  RunOptions run;
  fs::path report;  ///< of one output; empty: <output>.report.json
  bool overwrite = false;
  bool accept_open = false;  ///< also a k that the store does not vouch for
};

/// Throws Error(usage) naming the option that makes no sense.
void check_apply_job(const ApplyJob& job);

/// Adds coef times the first k triplets of a store to the aligned model: an output for every k and coef, all
/// in one reading. An unfinished run of the same job is gone on with. Returns `done`, or `stopped` if a
/// signal ended it early. Collective.
ExitCode apply(const Comm& comm, const ApplyJob& job, const Log& log);

/// What that will cost on so many ranks, from headers only. Refuses what apply would refuse.
Forecast plan_apply_job(const ApplyJob& job, const Resources& resources);

}  // namespace lox
