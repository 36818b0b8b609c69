// SPDX-License-Identifier: MIT
#pragma once
#include "lox/plan/cost.hpp"
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
  double seconds = 0;                 ///< until the last rank has finished
  double bandwidth = rank_bandwidth;  ///< bytes of files a second and rank that `seconds` assume
};
Forecast forecast(const Plan& plan, const Checkpoint& aligned, int ranks, double bandwidth = rank_bandwidth);

/// Of bytes that are read and written once, shared evenly among the ranks: convert; or only written: synth.
Forecast forecast_copy(std::uint64_t read, std::uint64_t written, int ranks,
                       double bandwidth = rank_bandwidth);

/// Of matrices that verify checks and bytes of tensors and files that it compares, dealt in turn.
Forecast forecast_check(const std::vector<Item>& checked, std::uint64_t compared, int ranks,
                        double bandwidth = rank_bandwidth);

}  // namespace lox
