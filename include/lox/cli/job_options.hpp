// SPDX-License-Identifier: MIT
#pragma once
#include "lox/cli/options.hpp"
#include "lox/plan/job.hpp"

#include <string>

namespace lox {

/// The options that `harden` and `plan` share, and the job they make. Call finish() after parsing.
struct JobOptions {
  Job job;
  std::string svd = "krylov";
  std::string grid = "auto";
  std::string memory;
  std::string seed = "0";
  std::string time_limit;
  bool quiet = false;
  void add_to(Options& options);
  void finish();
};

}  // namespace lox
