// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/plan/forecast.hpp"
#include "lox/plan/job.hpp"

namespace lox {

/// What is to be checked: a hardened model against base and aligned; or, with a store of factors, the store
/// against base and aligned, or a model against the store and aligned.
struct VerifyJob {
  Job job;                  ///< job.output: the hardened model; empty where a store is checked
  fs::path factors;         ///< empty: no store
  std::int64_t sample = 8;  ///< matrices; 0: all
  bool onto_base = false;   ///< job.aligned is the base: `apply` has added the store's factors to that

  bool has_store() const { return !factors.empty(); }
  bool of_store() const { return has_store() && job.output.empty(); }
};

/// Throws Error(usage) naming the option that makes no sense.
void check_verify_job(const VerifyJob& asked);

/// Checks every entry of `sample` matrices against an edit formed anew in double, by code that `harden` and
/// `apply` have no part in, and every copied tensor and other file byte by byte; or the triplets of a store
/// against a dense factorisation. Prints a line a failure and a summary of what was and was not checked.
/// Returns `done` or `not_certified`; throws Error(stopped) on a signal. Collective.
ExitCode verify(const Comm& comm, const VerifyJob& asked, const Log& log);

/// What that will cost on so many ranks, from headers only. Refuses what verify would refuse.
Forecast plan_verify(const VerifyJob& asked, int ranks, double bandwidth = rank_bandwidth);

}  // namespace lox
