// SPDX-License-Identifier: MIT
#pragma once
#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace lox {

/// What the program tells its caller; a contract with scripts (docs/usage.md).
enum class ExitCode : int {
  done = 0,
  internal = 1,
  usage = 2,
  bad_input = 3,
  not_certified = 4,
  io = 5,
  stopped = 75,  ///< stopped early, resumable (EX_TEMPFAIL)
};

/// A failure with its facts in the text: one line naming file, tensor, fact and remedy. Caught in main only.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& text) : std::runtime_error(text), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

/// Throws Error with a formatted text.
template <class... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> text, Args&&... args) {
  throw Error(code, fmt::format(text, std::forward<Args>(args)...));
}

/// A name from a file, safe to print on one line: control characters and broken UTF-8 shown as \xNN, the
/// whole cut to `longest` bytes.
std::string printable(const std::string& text, std::size_t longest = 200);

}  // namespace lox
