// SPDX-License-Identifier: MIT
#pragma once
#include <filesystem>
#include <string>

namespace lox {
namespace fs = std::filesystem;

/// Whether a path leads to the open file or folder. Links are not followed.
bool leads_to(const fs::path& path, int descriptor);

/// Holds on to the file or folder that a path led to. While it is held its inode number is given to no other,
/// so a later look at a path tells whether it still leads to the same thing.
class Anchor {
 public:
  /// Links are not followed. Throws Error(io) if nothing is there.
  explicit Anchor(const fs::path& path);
  Anchor(Anchor&& other) noexcept;
  Anchor& operator=(Anchor&& other) noexcept;
  Anchor(const Anchor&) = delete;
  Anchor& operator=(const Anchor&) = delete;
  ~Anchor();

  /// Whether `path` leads to it now.
  bool is_at(const fs::path& path) const { return leads_to(path, descriptor_); }
  bool is_folder() const;
  /// For openat(2) and its like.
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_ = -1;
};

/// What tells a file or folder from any other that ever had its name: its inode number, and where the file
/// system knows it the time it was made. Renaming it changes neither. Empty if nothing is there.
std::string birth_of(const fs::path& path);

/// rename(2) that never replaces anything. False if something stands at `to`; throws Error(io) for other
/// reasons. Where the system cannot do that in one step, a file is linked to its new name, and a folder may
/// replace an empty folder.
bool rename_if_free(const fs::path& from, const fs::path& to);

}  // namespace lox
