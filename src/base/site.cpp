// SPDX-License-Identifier: MIT
#include "lox/base/site.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string_view>
#include <sys/resource.h>
#include <unistd.h>

namespace fs = std::filesystem;

namespace lox {
namespace {

constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

/// The value of a variable; empty if it is not set.
std::string variable_text(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}
/// The number at its beginning.
template <class Number>
std::optional<Number> variable(const char* name) {
  const std::string text = variable_text(name);
  Number value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  return read.ec == std::errc() ? std::optional(value) : std::nullopt;
}

/// A line "NAME: N kB" of a file of /proc, in bytes.
std::optional<std::uint64_t> proc_value(const char* path, std::string_view name) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    std::uint64_t kib = 0;
    if (word == name && file >> kib) return kib * 1024;
  }
  return std::nullopt;
}

std::uint64_t free_memory() {
  return proc_value("/proc/meminfo", "MemAvailable:").value_or(unlimited);
}

/// To Slurm, 0 is all of the node.
std::uint64_t slurm_limit() {
  constexpr std::uint64_t mib = std::uint64_t{1} << 20;
  if (const auto per_node = variable<std::uint64_t>("SLURM_MEM_PER_NODE").value_or(0); per_node > 0)
    return per_node * mib;
  const auto of_cpus = variable<std::uint64_t>("SLURM_MEM_PER_CPU").value_or(0) *
                       variable<std::uint64_t>("SLURM_CPUS_ON_NODE").value_or(0);
  return of_cpus > 0 ? of_cpus * mib : unlimited;
}

/// The tightest limit of this process's cgroup (version 2) and those above it.
std::uint64_t cgroup_limit() {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  std::uint64_t limit = unlimited;
  while (std::getline(file, line)) {
    if (!line.starts_with("0::")) continue;
    std::string path = line.substr(3);
    while (!path.empty()) {
      std::ifstream value("/sys/fs/cgroup" + path + "/memory.max");
      std::uint64_t bytes = 0;
      if (value >> bytes) limit = std::min(limit, bytes);
      path = path == "/" ? "" : path.substr(0, path.rfind('/'));
    }
  }
  return limit;
}

}  // namespace

Slurm slurm() {
  Slurm job;
  job.job = variable_text("SLURM_JOB_ID");
  job.node_list = variable_text("SLURM_JOB_NODELIST");
  job.restarts = variable<int>("SLURM_RESTART_COUNT").value_or(0);
  job.step_tasks = variable<int>("SLURM_STEP_NUM_TASKS");
  // Outside of a step, in a batch script, this is what the whole job may start.
  if (!job.step_tasks && !variable_text("SLURM_STEP_ID").empty())
    job.step_tasks = variable<int>("SLURM_NTASKS");
  job.end_time = variable<double>("SLURM_JOB_END_TIME");
  if (job.end_time == 0.0) job.end_time.reset();  // Slurm's way to say that there is none
  return job;
}

int launched_processes() {
  // Of Open MPI's mpirun; of PMI, which MPICH and its kin use; of srun.
  return std::max({1, variable<int>("OMPI_COMM_WORLD_SIZE").value_or(1),
                   variable<int>("PMI_SIZE").value_or(1), slurm().step_tasks.value_or(1)});
}

std::uint64_t share_of(std::uint64_t memory, int ranks) {
  return memory / 10 * 9 / static_cast<std::uint64_t>(std::max(ranks, 1));
}

std::uint64_t node_memory() {
  return share_of(std::min({free_memory(), slurm_limit(), cgroup_limit(), std::uint64_t{1} << 50}), 1);
}

std::uint64_t memory_share(int ranks) {
  return node_memory() / static_cast<std::uint64_t>(std::max(ranks, 1));
}

std::uint64_t peak_memory() {
  // Not getrusage: its maximum survives exec, and so may be that of whoever started the program.
  return proc_value("/proc/self/status", "VmHWM:").value_or(0);
}

std::uint64_t address_space() {
  return proc_value("/proc/self/status", "VmSize:").value_or(0);
}

fs::path program_file() {
  std::error_code error;
  fs::path file = fs::read_symlink("/proc/self/exe", error);
  return error ? fs::path() : file;
}

std::vector<int> open_descriptors() {
  std::vector<int> descriptors;
  std::error_code error;
  for (fs::directory_iterator entry("/proc/self/fd", error), end; !error && entry != end;
       entry.increment(error)) {
    descriptors.push_back(std::atoi(entry->path().filename().c_str()));
  }
  return descriptors;
}

std::size_t open_file_limit() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? static_cast<std::size_t>(limit.rlim_cur) : 0;
}

void raise_open_file_limit() {
  constexpr rlim_t enough = 65536;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= enough) return;
  limit.rlim_cur = std::min(limit.rlim_max, enough);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "?";
}

}  // namespace lox
