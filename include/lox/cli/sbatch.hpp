// SPDX-License-Identifier: MIT
#pragma once
#include "lox/cli/options.hpp"

#include <cstdint>
#include <string>

namespace lox {

/// What a batch job asks Slurm for.
struct BatchNeeds {
  int nodes = 1;
  int ranks = 1;
  int ranks_per_node = 1;  ///< at most: the last node may get fewer
  int cpus_per_rank = 1;
  std::uint64_t gibibytes = 1;  ///< of memory, a node
  long minutes = 1;
};

/// Shell commands that submit harden, factor, apply or analyze, whichever was planned, with the options of
/// this command line: one line of sbatch and, where there is no job file, what writes one. No option is lost
/// and none is read otherwise: what an INI file cannot hold stays on the command line.
std::string sbatch_commands(const BatchNeeds& needs, const Options& options, const std::string& job_file);

}  // namespace lox
