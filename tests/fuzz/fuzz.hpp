// SPDX-License-Identifier: MIT
#pragma once
// What all targets of this folder share: hostile bytes are taken, or refused with an Error of one line.
// Anything else is a finding.
#include "lox/base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
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

/// A file of these bytes in the folder for temporary files, which run.py puts into memory. It has a path of
/// its own, since HDF5 does not open /proc/self/fd/N.
class ScratchFile {
 public:
  explicit ScratchFile(std::string_view bytes)
      : path_(std::filesystem::temp_directory_path() / fmt::format("lox-fuzz-{}", ::getpid())) {
    std::ofstream file(path_, std::ios::binary);
    file << bytes;
    file.close();
    expect(!file.fail(), "the file can be written");
  }
  ~ScratchFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace lox::fuzz
