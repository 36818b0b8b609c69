// SPDX-License-Identifier: MIT
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace lox {

/// What Slurm's variables say of the job around this process; nothing outside of one.
struct Slurm {
  std::string job;                 ///< its number; empty outside of a job
  std::string node_list;           ///< its nodes, as Slurm abbreviates them
  int restarts = 0;                ///< how often it was requeued
  std::optional<int> step_tasks;   ///< processes that srun started
  std::optional<double> end_time;  ///< when it will be killed, in seconds since the epoch
};
Slurm slurm();

/// How many processes the launcher that started this one says it started; 1 if there is none.
int launched_processes();

/// Bytes that all ranks of this node may use together: the limit of the Slurm job or the cgroup, else what is
/// free, less a tenth for the system.
std::uint64_t node_memory();
/// Of a node's memory, what each of so many ranks on it may use: nine tenths in all.
std::uint64_t share_of(std::uint64_t memory, int ranks);

/// Bytes that each of `ranks` ranks of this node may use.
std::uint64_t memory_share(int ranks);

/// This process's peak resident memory so far.
std::uint64_t peak_memory();

/// Bytes of address space that this process uses.
std::uint64_t address_space();

/// The file that this process runs; empty if it is not known.
std::filesystem::path program_file();

/// The descriptors that this process has open.
std::vector<int> open_descriptors();

/// How many files this process may have open.
std::size_t open_file_limit();
/// Raises that to what the system allows it to be raised to, but not beyond what programs that close every
/// possible descriptor bear.
void raise_open_file_limit();

std::string host_name();

}  // namespace lox
