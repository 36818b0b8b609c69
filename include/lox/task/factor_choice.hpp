// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/file.hpp"
#include "lox/base/mpi.hpp"
#include "lox/io/factors.hpp"
#include "lox/linalg/matrix.hpp"
#include "lox/plan/item.hpp"
#include "lox/run/apply_steps.hpp"

#include <map>
#include <string>
#include <utility>

namespace lox {

/// `text` with every `word` in it replaced.
std::string replaced(std::string text, const std::string& word, const std::string& by);

/// Throws Error(bad_input) if the store has fewer than k triplets, or does not vouch for the first k of them:
/// that only if k is not all of them, and it was not said to be accepted. Returns a warning, if there is one
/// to be given nevertheless.
std::string check_rank(const fs::path& store, const FactorsInfo& info, Index k, bool accept_open);

/// Throws Error(bad_input) unless factors.json tells of every matrix that the store has factors of, and of no
/// other, once. `items`: of which those that are edited.
void check_entries(const fs::path& store, const FactorsInfo& info, const Checkpoint& aligned,
                   const std::vector<Item>& items);

/// What a store says of each matrix, by tensor and number.
using FactorEntries = std::map<std::pair<std::string, std::int64_t>, const FactorEntry*>;
FactorEntries entries_by_matrix(const FactorsInfo& info);

/// Adds to a spectrum what the store says of the first k of its `stored_k` triplets.
void describe(const FactorEntry& entry, Index k, Index stored_k, Spectrum& spectrum);

/// The fingerprints of the aligned matrices, or of the base's, from rank 0 to all. Throws Error(bad_input) if
/// the store does not tell those. Collective.
ExpectedContents share_contents(const Comm& comm, const fs::path& store, const FactorsInfo& info, Role of);

}  // namespace lox
