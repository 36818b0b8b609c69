// SPDX-License-Identifier: MIT
#include "lox/task/factor_choice.hpp"

#include "lox/base/error.hpp"

#include <algorithm>

namespace lox {

std::string replaced(std::string text, const std::string& word, const std::string& by) {
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + by.size())) {
    text.replace(at, word.size(), by);
  }
  return text;
}

std::string check_rank(const fs::path& store, const FactorsInfo& info, Index k, bool accept_open) {
  if (k > info.k) {
    fail(ExitCode::bad_input,
         "{}: holds {} triplets of every matrix, fewer than --k {}; factor with a larger --k", store, info.k,
         k);
  }
  const auto is_open = [&](const FactorEntry& entry) {
    return k == info.k ? !entry.settled : std::ranges::find(entry.open, k, &OpenRank::k) != entry.open.end();
  };
  const auto open = std::ranges::find_if(info.matrices, is_open);
  if (open == info.matrices.end()) return "";
  const auto count = std::ranges::count_if(info.matrices, is_open);
  if (k < info.k && !accept_open) {
    fail(ExitCode::bad_input,
         "{}: of {} matrices, tensor '{}' the first, k = {} is not settled: s_{} and s_{} are equal, as far "
         "as was "
         "solved; take another --k, factor with --k {}, or say --accept-open",
         store, count, open->tensor, k, k, k + 1, k);
  }
  return to_line("k = {}: {} matrices, tensor '{}' the first, have s_{} = s_{} as far as was solved", k,
                 count, open->tensor, k, k + 1);
}

}  // namespace lox
