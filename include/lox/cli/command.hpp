// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/error.hpp"

#include <string>
#include <vector>

namespace lox {

using Arguments = std::vector<std::string>;

/// One command of the program: `lox <name> [options]`.
struct Command {
  const char* name;
  const char* summary;
  bool parallel;  ///< works under MPI; the others never start it, so that they run on login nodes
  ExitCode (*run)(const Arguments& arguments);
};

ExitCode run_help(const Arguments& arguments);
ExitCode run_inspect(const Arguments& arguments);
ExitCode run_convert(const Arguments& arguments);
ExitCode run_synth(const Arguments& arguments);
ExitCode run_plan(const Arguments& arguments);
ExitCode run_harden(const Arguments& arguments);
ExitCode run_status(const Arguments& arguments);
ExitCode run_report(const Arguments& arguments);
ExitCode run_verify(const Arguments& arguments);

const std::vector<Command>& commands();

/// The program's help and version texts.
std::string program_help();
std::string program_version();

}  // namespace lox
