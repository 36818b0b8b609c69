// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/cli/options.hpp"
#include "lox/plan/job.hpp"

#include <string>

namespace lox {

/// The options of a run on this machine, which all tasks with a journal share.
struct RunWords {
  std::string memory;
  std::string time_limit;
  bool quiet = false;
  void add_memory_to(Options& options);
  void add_time_to(Options& options, RunOptions& run, bool& overwrite);
  /// The same without --recheck, for outputs that have no checksums.
  void add_limits_to(Options& options, bool& overwrite);
  void finish(RunOptions& run) const;
  /// What rank 0 says.
  Log::Level level(const Comm& comm) const;

 private:
  void add_time_limit_to(Options& options);
  void add_overwrite_to(Options& options, bool& overwrite);
};

/// The options that `harden`, `factor`, `analyze` and their plans share, and the job they make. Call finish()
/// after parsing.
struct JobOptions {
  enum class Task { harden, factor, analyze };
  explicit JobOptions(Task which = Task::harden) : task(which) {}
  Task task;
  Job job;
  std::string svd = "krylov";
  std::string grid = "auto";
  std::string seed = "0";
  std::string unpaired = "refuse";
  std::string extra_rows = "refuse";
  bool as_adapter = false;
  RunWords run;
  void add_to(Options& options);
  void finish();
  // Parts of it, for commands that ask for the rest in their own words.
  void add_pair_to(Options& options);
  void add_solver_to(Options& options);  ///< and the memory
  void add_selection_to(Options& options);
  void add_pairing_to(Options& options);
  void add_seed_to(Options& options);
};

}  // namespace lox
