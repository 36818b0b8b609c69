// SPDX-License-Identifier: MIT
#pragma once
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "lox/io/checkpoint.hpp"
#include "lox/run/record.hpp"

namespace lox {

struct RunTotals {
  double seconds = 0;
  std::uint64_t peak_rss_bytes = 0;  ///< the largest of any rank
  int ranks = 1;
};

/// The report of docs/usage.md from the records of all finished items, in the order of the model's tensors.
nlohmann::ordered_json make_report(const Job& job, const Checkpoint& model, const std::vector<TensorRecord>& records,
                           const RunTotals& totals);

/// This process's peak resident memory so far.
std::uint64_t peak_rss_bytes();

}  // namespace lox
