// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/error.hpp"
#include "lox/base/mpi.hpp"

#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace lox {

using Arguments = std::vector<std::string>;

/// What the words of a command that works under MPI ask for. They are read before MPI starts.
struct Request {
  std::string help;              ///< if not empty: to be printed, and nothing else to be done
  nlohmann::ordered_json asked;  ///< every option by name: what all ranks must have alike
  std::function<ExitCode(const Comm& comm)> work;  ///< Collective.
};

/// One command of the program: `lox <name> [options]`. It has one of the two functions.
struct Command {
  const char* name;
  const char* summary;
  ExitCode (*run)(const Arguments& arguments) = nullptr;  ///< starts no MPI, so that it works on login nodes
  Request (*read)(const Arguments& arguments) = nullptr;  ///< of a command for many ranks
};

ExitCode run_help(const Arguments& arguments);
ExitCode run_inspect(const Arguments& arguments);
Request read_convert(const Arguments& arguments);
Request read_synth(const Arguments& arguments);
ExitCode run_plan(const Arguments& arguments);
Request read_harden(const Arguments& arguments);
Request read_factor(const Arguments& arguments);
Request read_apply(const Arguments& arguments);
Request read_adapter(const Arguments& arguments);
Request read_analyze(const Arguments& arguments);
Request read_landscape(const Arguments& arguments);
ExitCode run_status(const Arguments& arguments);
ExitCode run_report(const Arguments& arguments);
Request read_verify(const Arguments& arguments);

const std::vector<Command>& commands();
/// Throws Error(usage) if there is none of this name.
const Command& find_command(const std::string& name);

/// The program's help and version texts.
std::string program_help();
std::string program_version();

}  // namespace lox
