// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"
#include "lox/linalg/dist_svd.hpp"
#include "lox/run/record.hpp"

#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace lox {

/// Seconds of one rank, or summed over ranks: what its solver did, and what its reading and writing threads
/// did beside.
struct WorkTimes {
  double solving = 0;
  double waiting = 0;  ///< the solver, for reader and writer
  double idle = 0;     ///< after the rank's own work, until the last rank has finished: load imbalance
  double reading = 0;
  double writing = 0;
  GridTimes grid;  ///< of `solving`: matrices solved by all ranks
  double redistribution = 0;
};

struct RunTotals {
  double seconds = 0;
  WorkTimes work;                    ///< summed over ranks
  std::uint64_t peak_rss_bytes = 0;  ///< the largest of any rank
  int ranks = 1;
};

/// The report of docs/usage.md from the records of all finished items, in the order of the model's tensors.
nlohmann::ordered_json make_report(const Job& job, const Checkpoint& model,
                                   const std::vector<TensorRecord>& records, const RunTotals& totals);

/// This process's peak resident memory so far.
std::uint64_t peak_rss_bytes();

}  // namespace lox
