// SPDX-License-Identifier: MIT
#include "lox/io/hdf5_handle.hpp"

#include "lox/base/error.hpp"

#include <string>

#include <fmt/format.h>

namespace lox {
namespace {

/// The outermost and the innermost line of the library's error stack.
struct Story {
  std::string first;
  std::string last;
};

herr_t add_line(unsigned, const H5E_error2_t* line, void* to) noexcept try {
  auto& story = *static_cast<Story*>(to);
  story.last = line->desc == nullptr ? "" : line->desc;
  if (story.first.empty()) story.first = story.last;
  return 0;
} catch (...) {
  return 0;  // no memory for the text: the error is told without it
}

std::string describe(const char* call) {
  Story story;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, add_line, &story);
  H5Eclear2(H5E_DEFAULT);
  if (story.first == story.last) return printable(fmt::format("{}: {}", call, story.first));
  return printable(fmt::format("{}: {} ({})", call, story.first, story.last));
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
