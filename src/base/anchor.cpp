// SPDX-License-Identifier: MIT
#include "lox/base/anchor.hpp"

#include "lox/base/error.hpp"
#include "lox/base/fault.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace lox {
namespace {

/// What this says is unknown to the system or the file system, as opposed to an error of its own.
bool is_unknown_call(int reason) {
  return reason == EINVAL || reason == ENOSYS || reason == EOPNOTSUPP || reason == EPERM;
}

}  // namespace

bool leads_to(const fs::path& path, int descriptor) {
  struct stat mine {};
  struct stat theirs {};
  return ::fstat(descriptor, &mine) == 0 && ::lstat(path.c_str(), &theirs) == 0 &&
         mine.st_dev == theirs.st_dev && mine.st_ino == theirs.st_ino;
}

Anchor::Anchor(const fs::path& path) : descriptor_(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)) {
  if (descriptor_ < 0) fail(ExitCode::io, "{}: cannot open: {}", path, std::strerror(errno));
}

Anchor::Anchor(Anchor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

Anchor& Anchor::operator=(Anchor&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

Anchor::~Anchor() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

bool Anchor::is_folder() const {
  struct stat mine {};
  return ::fstat(descriptor_, &mine) == 0 && S_ISDIR(mine.st_mode);
}

std::string birth_of(const fs::path& path) {
  struct statx status {};
  if (::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &status) != 0) return "";
  if ((status.stx_mask & STATX_BTIME) == 0) return std::to_string(status.stx_ino);
  return fmt::format("{} {}.{:09}", status.stx_ino, status.stx_btime.tv_sec, status.stx_btime.tv_nsec);
}

bool rename_if_free(const fs::path& from, const fs::path& to) {
  fault_point("rename");
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return true;
  int reason = errno;
  if (is_unknown_call(reason)) {
    if (fs::is_directory(fs::symlink_status(from))) {
      if (::rename(from.c_str(), to.c_str()) == 0) return true;
      reason = errno == ENOTDIR ? EEXIST : errno;
    } else if (::link(from.c_str(), to.c_str()) == 0) {
      if (::unlink(from.c_str()) == 0) return true;
      reason = errno;
    } else if (is_unknown_call(errno)) {  // no hard links either: the best that is left
      if (fs::exists(fs::symlink_status(to))) return false;
      if (::rename(from.c_str(), to.c_str()) == 0) return true;
      reason = errno;
    } else {
      reason = errno;
    }
  }
  if (reason == EEXIST || reason == ENOTEMPTY) return false;
  fail(ExitCode::io, "{}: cannot rename to {}: {}", from, to, std::strerror(reason));
}

}  // namespace lox
