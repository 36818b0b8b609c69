// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/error.hpp"

#include <algorithm>
#include <charconv>
#include <string>
#include <vector>

namespace lox {

/// The value of an option that is numbers with commas between them. Throws Error(usage) if it is something
/// else, or names one twice.
template <class Number>
std::vector<Number> parse_list(const std::string& text, const char* option) {
  std::vector<Number> numbers;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    Number number{};
    const auto [rest, error] = std::from_chars(text.data() + begin, text.data() + end, number);
    if (error != std::errc() || rest != text.data() + end) {
      fail(ExitCode::usage, "{} '{}' is no list of numbers, such as 0.5,1", option, text);
    }
    if (std::ranges::find(numbers, number) != numbers.end()) {
      fail(ExitCode::usage, "{} '{}' names {} twice", option, text, number);
    }
    numbers.push_back(number);
    begin = end + 1;
  }
  return numbers;
}

}  // namespace lox
