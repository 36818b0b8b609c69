// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/file.hpp"
#include "lox/io/factors.hpp"
#include "lox/linalg/matrix.hpp"

#include <string>

namespace lox {

/// `text` with every `word` in it replaced.
std::string replaced(std::string text, const std::string& word, const std::string& by);

/// Throws Error(bad_input) if the store has fewer than k triplets, or does not vouch for the first k of them:
/// that only if k is not all of them, and it was not said to be accepted. Returns a warning, if there is one
/// to be given nevertheless.
std::string check_rank(const fs::path& store, const FactorsInfo& info, Index k, bool accept_open);

}  // namespace lox
