// SPDX-License-Identifier: MIT
#include "lox/io/hdf5_handle.hpp"

#include "lox/base/error.hpp"

#include <string>

#include <fmt/format.h>

namespace lox {
namespace {

/// The library's error stack: its outermost and its innermost line.
struct ErrorStack {
  std::string outermost;
  std::string innermost;
};

herr_t add_line(unsigned, const H5E_error2_t* line, void* to) noexcept try {
  auto& stack = *static_cast<ErrorStack*>(to);
  stack.innermost = line->desc == nullptr ? "" : line->desc;
  if (stack.outermost.empty()) stack.outermost = stack.innermost;
  return 0;
} catch (...) {
  return 0;  // no memory for the text: the error is reported without it
}

std::string describe(const char* call) {
  ErrorStack stack;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, add_line, &stack);
  H5Eclear2(H5E_DEFAULT);
  if (stack.outermost == stack.innermost) return printable(fmt::format("{}: {}", call, stack.outermost));
  return printable(fmt::format("{}: {} ({})", call, stack.outermost, stack.innermost));
}

std::mutex& library_mutex() {
  static std::mutex mutex;
  return mutex;
}

}  // namespace

Hdf5Lock::Hdf5Lock() : lock_(library_mutex()) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Hdf5Error::Hdf5Error(const char* call) : std::runtime_error(describe(call)) {}

}  // namespace lox
