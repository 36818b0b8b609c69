// SPDX-License-Identifier: MIT
#pragma once
#include "lox/plan/plan.hpp"

#include <vector>

namespace lox {

/// What a plan will cost.
struct Forecast {
  struct Rank {
    std::uint64_t memory = 0;  ///< at least needed; more is used to overlap reading, solving and writing
    std::uint64_t bytes_read = 0;
    std::uint64_t bytes_written = 0;
    double flops = 0;
    double seconds = 0;
  };
  std::vector<Rank> ranks;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::uint64_t disk = 0;  ///< of the output, its other files included
  double flops = 0;
  double seconds = 0;  ///< until the last rank has finished
};
Forecast forecast(const Plan& plan, const Checkpoint& aligned, int ranks);

/// Throws Error(io) if the file system of `output` has not the room that `bytes` more need.
void check_space(const fs::path& output, std::uint64_t bytes);

}  // namespace lox
