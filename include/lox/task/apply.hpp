// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/plan/job.hpp"
#include "lox/run/target.hpp"
#include "lox/task/planned.hpp"

#include <string>
#include <vector>

namespace lox {

/// What the user asked `apply` to do.
struct ApplyJob {
  fs::path aligned;  ///< the model that is added to; or
  fs::path base;     ///< the one before alignment, of which Delta_k makes an aligned one of rank k
  fs::path factors;
  std::string output;    ///< with {k} and {coef} where there are several of them
  std::vector<Index> k;  ///< empty: all triplets that the store has
  std::vector<double> coef;
  RunOptions run;
  fs::path report;  ///< of one output; empty: <output>.report.json
  bool overwrite = false;
  bool accept_open = false;  ///< also a k that the store does not vouch for

  /// Which model is added to, its name and its place.
  Role onto() const { return aligned.empty() ? base_model : aligned_model; }
  const char* model_name() const { return aligned.empty() ? "base" : "aligned"; }
  const fs::path& model() const { return aligned.empty() ? base : aligned; }
};

/// Throws Error(usage) naming the option that makes no sense.
void check_apply_job(const ApplyJob& job);

/// Where the model of this k (nothing: all triplets of the store) and coef goes.
fs::path apply_output(const ApplyJob& job, const std::optional<Index>& k, double coef);

/// Adds coef times the first k triplets of a store to the aligned model, or to the base: an output for every
/// k and coef, all in one reading. An unfinished run of the same job is gone on with. Returns `done`, or
/// `stopped` if a signal ended it early. Collective.
ExitCode apply(const Comm& comm, const ApplyJob& job, const Log& log);

/// What that would do and cost, from headers only. Throws what it would throw, but for room.
Planned plan_apply_job(const ApplyJob& job, const PlanRequest& request, const Log& log);

}  // namespace lox
