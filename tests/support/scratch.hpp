// SPDX-License-Identifier: MIT
#pragma once
// Folders and files for a test.
#include "lox/base/file.hpp"

#include <atomic>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <unistd.h>

#include <fmt/format.h>

namespace lox::testing {

/// A folder that is gone after the test.
class Scratch {
 public:
  Scratch() {
    static std::atomic<int> count = 0;
    path_ = fs::temp_directory_path() / fmt::format("lox-test-{}-{}", ::getpid(), count++);
    fs::create_directories(path_);
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  fs::path operator/(const std::string& name) const { return path_ / name; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

inline void put(const fs::path& path, std::string_view bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string get(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace lox::testing
