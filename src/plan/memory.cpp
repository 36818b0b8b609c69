// SPDX-License-Identifier: MIT
#include "lox/plan/memory.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>

namespace lox {
namespace {

constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

/// MemAvailable of /proc/meminfo.
std::uint64_t free_memory() {
  std::ifstream file("/proc/meminfo");
  std::string word;
  while (file >> word) {
    if (word == "MemAvailable:") {
      std::uint64_t kib = 0;
      file >> kib;
      return kib * 1024;
    }
  }
  return unlimited;
}

std::uint64_t slurm_limit() {
  const char* const per_node = std::getenv("SLURM_MEM_PER_NODE");  // MiB
  if (per_node != nullptr) {
    const std::uint64_t mib = std::strtoull(per_node, nullptr, 10);
    if (mib > 0) return mib << 20;
  }
  const char* const per_cpu = std::getenv("SLURM_MEM_PER_CPU");
  const char* const cpus = std::getenv("SLURM_CPUS_ON_NODE");
  if (per_cpu != nullptr && cpus != nullptr) {
    const std::uint64_t mib = std::strtoull(per_cpu, nullptr, 10) * std::strtoull(cpus, nullptr, 10);
    if (mib > 0) return mib << 20;
  }
  return unlimited;
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

std::uint64_t available_memory(int ranks_on_node) {
  const std::uint64_t least =
      std::min({free_memory(), slurm_limit(), cgroup_limit(), std::uint64_t{1} << 50});
  return least / 10 * 9 / static_cast<std::uint64_t>(std::max(ranks_on_node, 1));
}

}  // namespace lox
