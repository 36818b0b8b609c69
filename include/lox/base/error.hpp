// SPDX-License-Identifier: MIT
#pragma once
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

namespace lox {

/// What the program tells its caller; a contract with scripts. exit_meanings() says what each means.
enum class ExitCode : int {
  done = 0,
  internal = 1,
  usage = 2,
  bad_input = 3,
  not_certified = 4,
  io = 5,
  stopped = 75,  ///< EX_TEMPFAIL
};

/// All that is said of an exit code anywhere: in the help, the man page and docs/usage.md.
struct ExitMeaning {
  ExitCode code;
  const char* name;
  const char* meaning;  ///< in Markdown
};
/// All of them, by number.
std::span<const ExitMeaning> exit_meanings();

/// A failure with its facts in the text: one line naming file, tensor, fact and remedy. Caught in main only.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& text) : std::runtime_error(text), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

/// A text from outside, safe to print on one line: control characters and broken UTF-8 shown as \xNN, the
/// whole cut to `longest` bytes.
std::string printable(std::string_view text, std::size_t longest = 200);

/// An argument of a line for people. Paths and strings, which may come from a file or a user, become
/// printable; names of more than 500 bytes are cut. Literals and views are texts of ours: made printable,
/// never cut.
template <class T>
auto shown(const T& value) {
  constexpr std::size_t longest_name = 500;
  if constexpr (std::is_same_v<T, std::filesystem::path>) {
    return printable(value.native(), longest_name);
  } else if constexpr (std::is_same_v<T, std::string>) {
    return printable(value, longest_name);
  } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    return printable(value, std::string_view::npos);
  } else {
    return value;
  }
}
template <class... Args>
using LineFormat = fmt::format_string<decltype(shown(std::declval<std::remove_cvref_t<Args>>()))...>;

/// A formatted text for people, whatever its arguments hold.
template <class... Args>
std::string to_line(LineFormat<Args...> text, const Args&... args) {
  return fmt::format(text, shown(args)...);
}
/// The same, on stdout.
template <class... Args>
void print(LineFormat<Args...> text, const Args&... args) {
  fmt::print(text, shown(args)...);
}
/// Throws Error with such a text.
template <class... Args>
[[noreturn]] void fail(ExitCode code, LineFormat<Args...> text, const Args&... args) {
  throw Error(code, fmt::format(text, shown(args)...));
}

}  // namespace lox
