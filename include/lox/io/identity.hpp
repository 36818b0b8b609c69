// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

#include <cstdint>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace lox {

/// What makes a model on disk this one: its path, the files of it by size and time, and its table (a checksum
/// of names, dtypes, shapes and places). If any of it changes, it is another model. The text that the
/// checksum is taken of has a version of its own, so that new fields in the form in which tables travel
/// between ranks change no identity.
inline constexpr int identity_version = 1;
nlohmann::json identity_of(const Checkpoint& model);

/// A checksum of names, dtypes, shapes and places.
std::uint64_t table_checksum(const Checkpoint& model);

/// A checksum of all that makes a job this one.
std::string fingerprint_of(const nlohmann::json& identity);

/// The first place where two values differ, as a sentence; empty if they are equal. What an object lacks is
/// at its default. `at` is how the value is called.
std::string first_difference(const nlohmann::json& now, const nlohmann::json& before, const std::string& at);

/// Throws Error(io) if the model called `name` is no longer the one that `identity` was taken of.
void check_unchanged(const std::string& name, const Checkpoint& model, const nlohmann::json& identity);

}  // namespace lox
