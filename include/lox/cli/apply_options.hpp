// SPDX-License-Identifier: MIT
#pragma once
#include "lox/cli/job_options.hpp"
#include "lox/task/apply.hpp"

#include <string>

namespace lox {

/// The options that `apply` and its plan share, and the job they make. Call finish() after parsing, with what
/// was said.
struct ApplyOptions {
  ApplyJob job;
  std::string k;
  std::string coef;
  RunWords run;
  void add_to(Options& options);
  void finish(const boost::program_options::variables_map& values);
};

}  // namespace lox
