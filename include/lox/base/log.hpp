// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/error.hpp"

#include <cstdio>
#include <string>

namespace lox {

/// Lines for people, on stderr. Only rank 0 is given a Log that speaks; passed down, never global.
class Log {
 public:
  enum class Level { silent, warnings, all };

  explicit Log(Level level = Level::silent) : level_(level) {}

  template <class... Args>
  void info(LineFormat<Args...> text, const Args&... args) const {
    if (level_ == Level::all) line(to_line(text, args...));
  }
  template <class... Args>
  void warn(LineFormat<Args...> text, const Args&... args) const {
    if (level_ != Level::silent) line("warning: " + to_line(text, args...));
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
