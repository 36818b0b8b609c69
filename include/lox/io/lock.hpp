// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/file.hpp"

#include <optional>
#include <string>

namespace lox {

/// Keeps two jobs from writing one output. The file says who holds it; a kernel lock on it says whether they
/// still live, so that what a killed job left behind is no obstacle. The kernel's locks reach other nodes
/// where the file system passes them on (NFS, Lustre mounted with flock).
class OutputLock {
 public:
  /// Throws Error(bad_input) naming host, pid and Slurm job of the holder if another job is at work.
  explicit OutputLock(const fs::path& file);

  /// Who holds it now: one line for people, or nothing if nobody does.
  static std::optional<std::string> holder(const fs::path& file);

 private:
  File file_;
};

}  // namespace lox
