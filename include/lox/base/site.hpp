// SPDX-License-Identifier: MIT
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace lox {

/// What Slurm's variables say of the job around this process. Empty or 0: not said.
struct Slurm {
  std::string job;        ///< its number
  std::string node_list;  ///< its nodes, as Slurm abbreviates them
  int restarts = 0;       ///< how often it was requeued
  int step_tasks = 0;     ///< processes that srun started
  double end_time = 0;    ///< when it will be killed, in seconds since the epoch
};
Slurm slurm();

/// How many processes the launcher that started this one says it started; 1 if there is none.
int launched_processes();

/// Bytes that all ranks of this node may use together: the limit of the Slurm job or the cgroup, else what is
/// free, less a tenth for the system.
std::uint64_t node_memory();

/// Bytes that each of `ranks` ranks of this node may use.
std::uint64_t memory_share(int ranks);

/// This process's peak resident memory so far.
std::uint64_t peak_memory();

/// How many files this process may have open.
std::size_t open_file_limit();
/// Raises that to what the system allows it to be raised to, but not beyond what programs that close every
/// possible descriptor bear.
void raise_open_file_limit();

std::string host_name();

}  // namespace lox
