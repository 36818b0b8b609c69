// SPDX-License-Identifier: MIT
#pragma once
// What all targets of this folder share: hostile bytes are taken, or refused with an Error of one line.
// Anything else is a finding.
#include "lox/base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <unistd.h>

namespace lox::fuzz {

/// Ends the program, and so the fuzzing, with a message.
inline void expect(bool holds, const char* what) {
  if (holds) return;
  fmt::print(stderr, "does not hold: {}\n", what);
  std::abort();
}

/// Runs an action that may refuse its input: with these exit codes and no other exception.
template <class Action>
void survives(Action action, std::initializer_list<ExitCode> codes) {
  try {
    action();
  } catch (const Error& error) {
    bool known = false;
    for (const ExitCode code : codes) known |= error.code() == code;
    if (!known) fmt::print(stderr, "exit code {}: {}\n", static_cast<int>(error.code()), error.what());
    expect(known, "an error for what is wrong with the input has the exit code for that");
    expect(std::string_view(error.what()).find('\n') == std::string_view::npos, "an error is one line");
  }
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// A file in memory with a path that other processes can open too.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : descriptor_(::memfd_create("lox-fuzz", MFD_CLOEXEC)) {
    while (!bytes.empty()) {
      const ssize_t put = ::write(descriptor_, bytes.data(), bytes.size());
      expect(put > 0, "the file in memory can be written");
      bytes.remove_prefix(static_cast<std::size_t>(put));
    }
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return fmt::format("/proc/{}/fd/{}", ::getpid(), descriptor_); }

 private:
  int descriptor_;
};

}  // namespace lox::fuzz
