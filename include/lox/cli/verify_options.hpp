// SPDX-License-Identifier: MIT
#pragma once
#include "lox/cli/options.hpp"
#include "lox/task/verify.hpp"

#include <string>

namespace lox {

/// The options that `verify` and its plan share. Call finish() after parsing.
struct VerifyOptions {
  VerifyJob asked;
  std::string k;
  std::string job_file;
  std::string report;
  std::string unpaired = "refuse";
  std::string extra_rows = "refuse";
  void add_to(Options& options);
  /// Takes what no word gives from the job file or the report.
  void finish(const boost::program_options::variables_map& values);
};

}  // namespace lox
