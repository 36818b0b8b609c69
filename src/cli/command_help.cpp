// SPDX-License-Identifier: MIT
#include "lox/cli/manual.hpp"
#include "lox/cli/options.hpp"

#include <algorithm>

namespace po = boost::program_options;

namespace lox {
namespace {

/// Has a command print its own help: only it knows its options.
ExitCode ask(const Command& command, const Arguments& arguments) {
  if (command.run != nullptr) return command.run(arguments);
  fmt::print("{}", command.read(arguments).help);
  return ExitCode::done;
}

void ask_all(const char* form) {
  for (const Command& command : commands()) ask(command, {"--help-as", form});
}

}  // namespace

ExitCode run_help(const Arguments& arguments) {
  Options options("help", "[COMMAND | --man | --markdown | --job-file]",
                  "Prints the list of commands, or the help of one of them. The options of all\n"
                  "commands are described once, in the program; the other forms come from there.",
                  "  lox help --job-file > harden.ini");
  bool man = false;
  bool markdown = false;
  bool job_file = false;
  options.add({.name = "man", .brief = "the man page"}, man);
  options.add({.name = "markdown", .brief = "the tables of docs/usage.md"}, markdown);
  options.add({.name = "job-file", .brief = "a job file with every option of harden, explained"}, job_file);
  const auto named = [&](const Command& command) { return arguments[0] == command.name; };
  if (arguments.size() == 1) {
    const auto command = std::ranges::find_if(commands(), named);
    if (command != commands().end()) return ask(*command, {"--help"});
  }
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  if (man + markdown + job_file > 1) fail(ExitCode::usage, "--man, --markdown and --job-file: one at a time");
  if (man) {
    fmt::print("{}", man_head());
    ask_all("man");
    fmt::print("{}", man_foot());
  } else if (markdown) {
    ask_all("markdown");
    fmt::print("{}", markdown_exit_codes());
  } else if (job_file) {
    ask(find_command("harden"), {"--help-as", "job-file"});
  } else {
    fmt::print("{}", program_help());
  }
  return ExitCode::done;
}

}  // namespace lox
