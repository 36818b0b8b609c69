// SPDX-License-Identifier: MIT
#pragma once
#include "lox/cli/job_options.hpp"
#include "lox/task/analyze.hpp"

#include <string>
#include <vector>

namespace lox {

/// The options that `analyze` and its plan share, and the job they make. Call finish() after parsing.
struct AnalyzeOptions {
  AnalyzeJob asked;
  JobOptions words{JobOptions::Task::analyze};
  std::vector<std::string> tuned;
  std::string k = "6";
  void add_to(Options& options);
  void finish();
};

}  // namespace lox
