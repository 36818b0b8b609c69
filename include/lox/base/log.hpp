// SPDX-License-Identifier: MIT
#pragma once
#include <cstdio>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace lox {

/// Lines for people, on stderr. Only rank 0 is given a Log that speaks; passed down, never global.
class Log {
 public:
  enum class Level { silent, warnings, all };

  explicit Log(Level level = Level::silent) : level_(level) {}

  template <class... Args>
  void info(fmt::format_string<Args...> text, Args&&... args) const {
    if (level_ == Level::all) line(fmt::format(text, std::forward<Args>(args)...));
  }
  template <class... Args>
  void warn(fmt::format_string<Args...> text, Args&&... args) const {
    if (level_ != Level::silent) line("warning: " + fmt::format(text, std::forward<Args>(args)...));
  }
  bool speaks() const { return level_ == Level::all; }

 private:
  void line(const std::string& text) const {
    fmt::print(stderr, "lox: {}\n", text);
    std::fflush(stderr);
  }
  Level level_;
};

}  // namespace lox
