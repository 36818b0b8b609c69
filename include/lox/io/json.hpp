// SPDX-License-Identifier: MIT
#pragma once
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace lox {

/// One step through a JSON text.
struct JsonEvent {
  enum class Kind { begin_object, end_object, begin_array, end_array, text, whole, other };
  Kind kind = Kind::other;
  std::string_view text;     ///< of a text
  std::uint64_t number = 0;  ///< of a whole number, 0 to 2^53; all other numbers are Kind::other
  bool truth = false;        ///< whether it is `true`, a Kind::other
};

/// The keys that lead to a value; an element of an array has an empty key.
using JsonPath = std::vector<std::string>;
using JsonVisitor = std::function<void(const JsonPath&, const JsonEvent&)>;

/// What is wrong with a JSON text, for people, without the file's name.
struct JsonError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Walks through a JSON text that nobody vouches for, without building it in memory. Throws JsonError if it
/// is not JSON in UTF-8, has a key twice in one object, or is nested more than 16 deep.
void visit_json(std::string_view text, const JsonVisitor& visit);

/// A JSON value from a text that nobody vouches for; null if it is not JSON or nested more than 64 deep.
/// `why`: gets what is wrong then, for people.
nlohmann::json parse_json(std::string_view text, std::string* why = nullptr);

bool is_utf8(const std::string& text);

}  // namespace lox
