// SPDX-License-Identifier: MIT
#include "lox/base/error.hpp"

namespace lox {
namespace {

/// Length of the valid UTF-8 sequence at `at`, 0 if there is none.
std::size_t utf8_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  const std::size_t length = first < 0x80                    ? 1
                             : first >= 0xC2 && first < 0xE0 ? 2
                             : first >= 0xE0 && first < 0xF0 ? 3
                             : first >= 0xF0 && first < 0xF5 ? 4
                                                             : 0;
  if (length == 0 || at + length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

std::span<const ExitMeaning> exit_meanings() {
  static constexpr ExitMeaning all[]{
      {ExitCode::done, "done", "as it was asked; `status`: the output is finished"},
      {ExitCode::internal, "internal error", "of lox or of a library that it uses"},
      {ExitCode::usage, "usage", "an option makes no sense, or ranks were given different ones"},
      {ExitCode::bad_input, "bad input",
       "a file, a tensor, an output that exists; `status`: there is neither an output nor an unfinished one"},
      {ExitCode::not_certified, "not certified",
       "a residual above the tolerance; `verify`: the result is not what it should be"},
      {ExitCode::io, "I/O error or no space", "a file cannot be read or written, or changed while lox ran"},
      {ExitCode::stopped, "stopped early",
       "by a signal or a time limit; `harden`: the same command goes on; `status`: unfinished"},
  };
  return all;
}

std::string printable(std::string_view text, std::size_t longest) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    if (out.size() >= longest) return out + "...";
    const auto byte = static_cast<unsigned char>(text[i]);
    std::size_t length = byte < 0x20 || byte == 0x7F ? 0 : utf8_length(text, i);
    // The control characters U+0080 to U+009F: terminals obey some of them.
    if (length == 2 && byte == 0xC2 && static_cast<unsigned char>(text[i + 1]) < 0xA0) length = 0;
    if (length == 0) {
      out += fmt::format("\\x{:02x}", byte);
      ++i;
    } else {
      out.append(text.substr(i, length));
      i += length;
    }
  }
  return out;
}

}  // namespace lox
