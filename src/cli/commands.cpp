// SPDX-License-Identifier: MIT
#include "lox/base/version.hpp"
#include "lox/cli/command.hpp"
#include "lox/task/session.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <boost/version.hpp>

namespace lox {

const std::vector<Command>& commands() {
  static const std::vector<Command> table{
      {"inspect", "list the tensors of a checkpoint", run_inspect},
      {"convert", "safetensors to HDF5 and back, lossless", nullptr, read_convert},
      {"synth", "make one half of a synthetic pair of a model's shapes", nullptr, read_synth},
      {"plan", "what harden would do, from headers only", run_plan},
      {"harden", "the main job: base and aligned in, hardened out", nullptr, read_harden},
      {"factor", "solve once: keep the singular triplets in a store", nullptr, read_factor},
      {"apply", "hardened models from a store, at copying speed", nullptr, read_apply},
      {"adapter", "the edit as a LoRA adapter, from a store", nullptr, read_adapter},
      {"analyze", "the safety subspace, and how tuned models lie to it", nullptr, read_analyze},
      {"landscape", "models around the aligned one, to measure", nullptr, read_landscape},
      {"status", "how far an unfinished output is", run_status},
      {"report", "show the report of a hardened model as a table", run_report},
      {"verify", "check a hardened model by independent exact SVDs", nullptr, read_verify},
      {"help", "this text, the man page, or a job file to fill in", run_help},
  };
  return table;
}

const Command& find_command(const std::string& name) {
  const auto command = std::ranges::find(commands(), name, &Command::name);
  if (command == commands().end()) {
    fail(ExitCode::usage, "'{}' is not a command; see 'lox --help'", name);
  }
  return *command;
}

std::string program_help() {
  std::string text =
      "lox hardens language models against the loss of safety under fine-tuning by\n"
      "low-rank extrapolation (LoX): W + coef * (top-k part of W - W_base).\n\n"
      "Usage: lox COMMAND [options]          one process\n"
      "       mpirun -n N lox COMMAND ...    N of them; under Slurm: srun --mpi=pmix\n\n"
      "Commands:\n";
  for (const Command& command : commands()) text += fmt::format("  {:11}{}\n", command.name, command.summary);
  text +=
      "\n  lox COMMAND --help    the options of a command\n"
      "  lox --version         versions of lox and its libraries\n\n";
  std::string line = "Exit codes:";
  for (const ExitMeaning& exit : exit_meanings()) {
    const bool last = &exit == &exit_meanings().back();
    const std::string entry =
        fmt::format("{} {}{}", static_cast<int>(exit.code), exit.name, last ? "." : ",");
    const bool fits = line.size() + 1 + entry.size() <= 80;
    if (!fits) text += std::exchange(line, "") + '\n';
    line += (fits ? " " : "") + entry;
  }
  return text + line + '\n';
}

std::string program_version() {
  std::string text = fmt::format("lox {}\n", version());
  for (const auto& [name, version] : library_versions()) text += fmt::format("{:11}{}\n", name, version);
  return text + fmt::format("{:11}{}\n", "Boost", BOOST_LIB_VERSION);
}

}  // namespace lox
