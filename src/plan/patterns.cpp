// SPDX-License-Identifier: MIT
#include "lox/plan/patterns.hpp"

#include "lox/base/error.hpp"

#include <algorithm>

#include <re2/re2.h>

namespace lox {
namespace {

constexpr std::size_t longest_pattern = 10'000;

std::vector<std::unique_ptr<re2::RE2>> compile(const std::vector<std::string>& patterns, const char* option) {
  std::vector<std::unique_ptr<re2::RE2>> compiled;
  for (const std::string& pattern : patterns) {
    if (pattern.size() > longest_pattern) {
      fail(ExitCode::usage, "{} '{}' has {} characters, more than the {} allowed; say it in several patterns",
           option, pattern, pattern.size(), longest_pattern);
    }
    // RE2 takes a repeat count that it cannot hold for plain text.
    static const re2::RE2 too_often("\\{[0-9,]*[0-9]{4}");
    if (re2::RE2::PartialMatch(pattern, too_often)) {
      fail(ExitCode::usage, "{} '{}' repeats something 1000 times or more; use *", option, pattern);
    }
    compiled.push_back(std::make_unique<re2::RE2>(pattern, re2::RE2::Quiet));
    if (compiled.back()->ok()) continue;
    fail(ExitCode::usage, "{} '{}' is not a regular expression of RE2: {}", option, pattern,
         compiled.back()->error());
  }
  return compiled;
}

}  // namespace

Patterns::Patterns(const Selection& selection)
    : include_(compile(selection.include, "--include")), exclude_(compile(selection.exclude, "--exclude")) {}
Patterns::Patterns(Patterns&& other) noexcept = default;
Patterns& Patterns::operator=(Patterns&& other) noexcept = default;
Patterns::~Patterns() = default;

bool Patterns::takes(const std::string& name) const {
  const auto matches = [&](const auto& pattern) { return re2::RE2::PartialMatch(name, *pattern); };
  return (include_.empty() || std::ranges::any_of(include_, matches)) &&
         std::ranges::none_of(exclude_, matches);
}

void Patterns::refuse_idle(const std::vector<NamedModel>& models) const {
  const auto check = [&](const auto& patterns, const char* option) {
    for (const auto& pattern : patterns) {
      const auto in_model = [&](const NamedModel& model) {
        return std::ranges::any_of(model.table->tensors, [&](const TensorInfo& tensor) {
          return re2::RE2::PartialMatch(tensor.name, *pattern);
        });
      };
      if (std::ranges::any_of(models, in_model)) continue;
      fail(ExitCode::bad_input, "{}: {} '{}' matches no tensor; 'lox inspect' lists the names",
           models.front().table->path, option, pattern->pattern());
    }
  };
  check(include_, "--include");
  check(exclude_, "--exclude");
}

}  // namespace lox
