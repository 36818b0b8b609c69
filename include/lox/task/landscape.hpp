// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/plan/job.hpp"

#include <optional>
#include <string>
#include <vector>

namespace lox {

/// A place in the plane: W + a d1 + b d2.
struct Point {
  double a = 0;
  double b = 0;
};

/// What the user asked `landscape` to do.
struct LandscapeJob {
  fs::path base;
  fs::path aligned;
  fs::path factors;        ///< empty: Delta is solved first, and its factors are kept as <output>.factors
  std::optional<Index> k;  ///< triplets that make d1; without it all that the store has
  fs::path tuned;
  fs::path hardened;
  fs::path hardened_tuned;
  std::string output;  ///< with {a} and {b} where there are several points
  std::vector<Point> points;
  bool random = false;  ///< d2 is a random direction
  std::uint64_t seed = 0;
  RunOptions run;
  bool overwrite = false;
};

/// Throws Error(usage) naming the option that makes no sense.
void check_landscape_job(const LandscapeJob& job);

/// Measures the plane through the aligned model A that d1, the direction of hardening, and d2, that of
/// tuning, span (docs/analysis.md): <output>.landscape.json tells where the models lie in it. Then writes the
/// model of each point, all in one reading. An unfinished run of the same job is gone on with. Returns
/// `done`, or `stopped` if a signal ended it early. Collective.
ExitCode landscape(const Comm& comm, const LandscapeJob& job, const Log& log);

}  // namespace lox
