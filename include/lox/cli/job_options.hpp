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
  void finish(RunOptions& run) const;
  /// What rank 0 says.
  Log::Level level(const Comm& comm) const;
};

/// The options that `harden`, `factor` and their plans share, and the job they make. Call finish() after
/// parsing.
struct JobOptions {
  enum class Task { harden, factor };
  explicit JobOptions(Task which = Task::harden) : task(which) {}
  Task task;
  Job job;
  std::string svd = "krylov";
  std::string grid = "auto";
  std::string seed = "0";
  bool as_adapter = false;
  RunWords run;
  void add_to(Options& options);
  void finish();
};

}  // namespace lox
