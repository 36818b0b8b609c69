// SPDX-License-Identifier: MIT
#include "lox/base/file.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"
#include "lox/base/fault.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <utility>

namespace lox {
namespace {

[[noreturn]] void fail_io(const fs::path& path, const std::string& doing) {
  const int reason = errno;
  fail(ExitCode::io, "{}: cannot {}: {}", path, doing, std::strerror(reason));
}

int open_or_throw(const fs::path& path, int flags, const char* doing, int folder = AT_FDCWD,
                  const fs::path& name = {}) {
  const fs::path& opened = name.empty() ? path : name;
  int descriptor = -1;
  do {
    descriptor = ::openat(folder, opened.c_str(), flags | O_CLOEXEC, 0666);
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) fail_io(path, doing);
  return descriptor;
}

constexpr std::size_t direct_least = std::size_t{1} << 20;  // a write worth going past the cache

/// A second descriptor that goes past the page cache; -1 where there is no such thing.
int open_direct(const fs::path& path, int folder = AT_FDCWD) {
  static const bool wanted = [] {
    const char* const value = std::getenv("LOX_DIRECT_IO");
    return value == nullptr || std::string_view(value) != "0";
  }();
  return wanted ? ::openat(folder, path.c_str(), O_WRONLY | O_DIRECT | O_NOFOLLOW | O_CLOEXEC) : -1;
}

}  // namespace

File File::open_read(const fs::path& path) {
  return {open_or_throw(path, O_RDONLY, "open"), path};
}
File File::open_write(const fs::path& path) {
  // A link in the place of an output would lead the bytes somewhere else.
  return {open_or_throw(path, O_RDWR | O_NOFOLLOW, "open for writing"), path, open_direct(path)};
}
File File::open_write_in(int folder, const fs::path& name, const fs::path& path) {
  return {open_or_throw(path, O_RDWR | O_NOFOLLOW, "open for writing", folder, name), path,
          open_direct(name, folder)};
}
File File::create(const fs::path& path) {
  return {open_or_throw(path, O_RDWR | O_CREAT | O_EXCL, "create"), path, open_direct(path)};
}
File File::open_lock(const fs::path& path) {
  return {open_or_throw(path, O_RDWR | O_CREAT | O_NOFOLLOW, "open for locking"), path};
}
File::File(File&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      direct_(std::exchange(other.direct_, -1)),
      path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(direct_, other.direct_);
  std::swap(path_, other.path_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (direct_ >= 0) ::close(direct_);
}

std::uint64_t File::size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) fail_io(path_, "stat");
  return static_cast<std::uint64_t>(status.st_size);
}

std::uint64_t File::links() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) fail_io(path_, "stat");
  return static_cast<std::uint64_t>(status.st_nlink);
}

void File::will_read(std::uint64_t offset, std::uint64_t bytes) const {
  ::posix_fadvise(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(bytes), POSIX_FADV_WILLNEED);
}

void File::read(std::uint64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    const ssize_t got =
        ::pread(descriptor_, to.data(), std::min(to.size(), piece), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_io(path_, fmt::format("read {} bytes at {}", to.size(), offset));
    if (got == 0) {
      fail(ExitCode::io, "{}: ends at byte {}, {} bytes early; was it changed while lox ran?", path_, offset,
           to.size());
    }
    offset += static_cast<std::uint64_t>(got);
    to = to.subspan(static_cast<std::size_t>(got));
  }
}

void File::write(std::uint64_t offset, std::span<const std::byte> from) {
  fault_point("write");
  if (direct_ >= 0 && from.size() >= direct_least) {
    // The pages at both ends may be shared with what others write beside this: only the cache can merge them.
    const std::size_t head = (page() - page_shift(offset)) % page();
    write_cached(offset, from.first(head));
    const std::size_t whole = (from.size() - head) / page() * page();
    const std::size_t done = head + write_direct(offset + head, from.subspan(head, whole));
    offset += done;
    from = from.subspan(done);
  }
  write_cached(offset, from);
}

std::size_t File::page_shift(std::uint64_t offset) {
  return offset % page();
}

/// O_DIRECT wants memory, offset and size in whole blocks; a page is one everywhere.
std::size_t File::page() {
  static const std::size_t size =
      std::max<std::size_t>(4096, static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
  return size;
}

void File::write_cached(std::uint64_t offset, std::span<const std::byte> from) {
  while (!from.empty()) {
    const ssize_t put =
        ::pwrite(descriptor_, from.data(), std::min(from.size(), piece), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put == 0) errno = ENOSPC;
    if (put <= 0) fail_io(path_, fmt::format("write {} bytes at {}", from.size(), offset));
    offset += static_cast<std::uint64_t>(put);
    from = from.subspan(static_cast<std::size_t>(put));
  }
}

/// Returns how much it wrote, in whole pages: less than all where the file system would not have it.
std::size_t File::write_direct(std::uint64_t offset, std::span<const std::byte> pages) {
  Buffer copy;  // of what does not begin at a page of memory
  const bool in_place = reinterpret_cast<std::uintptr_t>(pages.data()) % page() == 0;
  if (!in_place) copy = Buffer(direct_piece);
  std::size_t done = 0;
  while (done < pages.size()) {
    const std::size_t count = std::min(pages.size() - done, direct_piece);
    const std::byte* from = pages.data() + done;
    if (!in_place) from = static_cast<const std::byte*>(std::memcpy(copy.data(), from, count));
    const ssize_t put = ::pwrite(direct_, from, count, static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EINVAL) break;
    if (put == 0) errno = ENOSPC;
    if (put <= 0) fail_io(path_, fmt::format("write {} bytes at {}", pages.size() - done, offset + done));
    const std::size_t kept = static_cast<std::size_t>(put) / page() * page();
    if (kept == 0) break;
    done += kept;
  }
  return done;
}

void File::append(std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(descriptor_, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put == 0) errno = ENOSPC;
    if (put <= 0) fail_io(path_, fmt::format("append {} bytes", text.size()));
    text.remove_prefix(static_cast<std::size_t>(put));
  }
}

void File::reserve(std::uint64_t size, Space space) {
  truncate(size);
  if (size == 0 || space == Space::sparse) return;
  int result = 0;
  do {
    result = ::fallocate(descriptor_, 0, 0, static_cast<off_t>(size));
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) {
    fail_io(path_, fmt::format("reserve {} bytes", size));
  }
}

void File::truncate(std::uint64_t size) {
  if (::ftruncate(descriptor_, static_cast<off_t>(size)) != 0)
    fail_io(path_, fmt::format("set size {}", size));
}

void File::sync() {
  fault_point("sync");
  if (::fdatasync(descriptor_) != 0) fail_io(path_, "sync");
}

std::string read_text(const fs::path& path, std::uint64_t limit) {
  const File file = File::open_read(path);
  const std::uint64_t size = file.size();
  if (size > limit) {
    fail(ExitCode::bad_input, "{}: {} bytes, more than the {} allowed for such a file", path, size, limit);
  }
  std::string text(size, '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

fs::path half_written(fs::path path) {
  path += ".tmp";
  return path;
}

void remove_half_written(const fs::path& path) {
  std::error_code ignored;
  fs::remove(half_written(path), ignored);
}

void write_text_atomically(const fs::path& path, std::string_view text) {
  try {
    remove_half_written(path);
    File file = File::create(half_written(path));
    file.write(0, std::as_bytes(std::span(text)));
    file.sync();
    rename_durably(half_written(path), path);
  } catch (...) {
    remove_half_written(path);
    throw;
  }
}

void sync_directory(const fs::path& directory) {
  fault_point("folder");
  const fs::path path = directory.empty() ? fs::path(".") : directory;
  const File handle(File::open_read(path));
  // Some network file systems cannot sync a directory; their renames are synchronous already.
  if (::fsync(handle.descriptor()) != 0 && errno != EINVAL && errno != EBADF) fail_io(path, "sync");
}

void rename_durably(const fs::path& from, const fs::path& to) {
  fault_point("rename");
  if (::rename(from.c_str(), to.c_str()) != 0) fail_io(from, to_line("rename to {}", to));
  sync_directory(to.parent_path());
}

std::uint64_t free_space(const fs::path& path) {
  fs::path probe = normal_path(path);
  std::error_code ignored;
  while (!fs::exists(probe, ignored) && probe.has_parent_path() && probe != probe.parent_path()) {
    probe = probe.parent_path();
  }
  struct statvfs status {};
  if (::statvfs(probe.c_str(), &status) != 0) fail_io(probe, "ask for free space");
  return static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize;
}

void check_name(const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const long limit = ::pathconf(folder.c_str(), _PC_NAME_MAX);
  const std::size_t bytes = path.filename().native().size();
  if (limit > 0 && bytes > static_cast<std::size_t>(limit)) {
    fail(ExitCode::bad_input,
         "{}: a name of {} bytes, and no more than {} are possible there; choose a shorter one", path, bytes,
         limit);
  }
}

fs::path normal_path(const fs::path& path) {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  fs::path result = fs::weakly_canonical(absolute, error);
  if (error) result = absolute.lexically_normal();
  return without_slash(result);
}

fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

bool is_within(const fs::path& inner, const fs::path& outer) {
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

}  // namespace lox
