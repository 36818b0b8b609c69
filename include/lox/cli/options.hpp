// SPDX-License-Identifier: MIT
#pragma once
#include "lox/cli/command.hpp"
#include "lox/plan/job.hpp"

#include <string>
#include <vector>

#include <boost/program_options.hpp>

namespace lox {

/// The options of one command, its help text and how both are used. Every complaint is an Error(usage).
class Options {
 public:
  /// `synopsis` follows the command's name in the help; `text` explains, `example` is shown last.
  Options(std::string command, std::string synopsis, std::string text, std::string example);

  boost::program_options::options_description_easy_init add() { return described_.add_options(); }
  /// A required argument without a name.
  void add_positional(const std::string& name);
  /// Options that may also stand in the INI file given by --config; the command line wins.
  void allow_config_file() { config_ = true; }

  /// True if the command should go on; false if --help was asked for and has been printed (by rank 0).
  bool parse(const Arguments& arguments, boost::program_options::variables_map& values);

 private:
  std::string help() const;
  std::string command_;
  std::string synopsis_;
  std::string text_;
  std::string example_;
  boost::program_options::options_description described_;
  std::vector<std::string> positional_;
  bool config_ = false;
};

/// The options that `harden` and `plan` share, and the job they make. Call finish_job() after parsing.
struct JobOptions {
  Job job;
  std::string svd = "krylov";
  std::string grid = "auto";
  std::string memory;
  std::string seed = "0";
  std::string time_limit;
  void add_to(Options& options);
  void finish();
};

}  // namespace lox
