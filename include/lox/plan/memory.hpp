// SPDX-License-Identifier: MIT
#pragma once
#include <cstdint>

namespace lox {

/// Bytes that each of `ranks_on_node` ranks may use: the limit of the Slurm job or the cgroup, else what is
/// free, less a tenth for the system, divided evenly.
std::uint64_t available_memory(int ranks_on_node);

}  // namespace lox
