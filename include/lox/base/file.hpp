// SPDX-License-Identifier: MIT
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace lox {

namespace fs = std::filesystem;

/// What a new file gets at once: its blocks, or only its size (a sparse file, for planning).
enum class Space { reserved, sparse };

/// An open file: positioned reads and writes of any size, in pieces of at most 256 MiB, that either move
/// every byte or throw Error(io) naming the file, the position and the system's reason. Safe to use from
/// several threads.
class File {
 public:
  static constexpr std::size_t piece = std::size_t{256} << 20;
  static constexpr std::size_t direct_piece = std::size_t{8} << 20;  ///< of a write past the page cache

  static File open_read(const fs::path& path);
  /// An existing file, for reading and writing.
  static File open_write(const fs::path& path);
  /// The same, of a file that lies in a folder opened before: `path` leads to it and is for texts, `name` is
  /// its path in the folder. Whatever has taken the folder's place by now is not touched.
  static File open_write_in(int folder, const fs::path& name, const fs::path& path);
  /// A new file, for reading and writing; it must not exist.
  static File create(const fs::path& path);
  /// For reading and writing; made if it does not exist. Links are not followed.
  static File open_lock(const fs::path& path);

  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File();

  std::uint64_t size() const;
  /// Names that the file still has: 0 once it was removed.
  std::uint64_t links() const;
  void read(std::uint64_t offset, std::span<std::byte> to) const;
  /// Tells the system that this will be read soon, so that the disk works meanwhile. No promise, no error.
  void will_read(std::uint64_t offset, std::uint64_t bytes) const;
  /// Whole pages of a large write go past the page cache where the file system lets them (O_DIRECT): no copy
  /// into memory that others could use. Memory that lies as far from a page as `offset` does (`page_shift`)
  /// is written from where it is, other memory is copied first. LOX_DIRECT_IO=0 in the environment keeps all
  /// in the cache.
  void write(std::uint64_t offset, std::span<const std::byte> from);
  static std::size_t page_shift(std::uint64_t offset);
  /// Bytes of a page: of the memory's, and at least 4096.
  static std::size_t page();
  void append(std::string_view text);
  /// Sets the size and reserves the blocks, so that a full disk shows now and not after hours. Where a file
  /// system cannot reserve, only the size is set.
  void reserve(std::uint64_t size, Space space = Space::reserved);
  void truncate(std::uint64_t size);
  /// On disk before it returns.
  void sync();

  int descriptor() const { return descriptor_; }
  const fs::path& path() const { return path_; }

 private:
  File(int descriptor, fs::path path, int direct = -1)
      : descriptor_(descriptor), direct_(direct), path_(std::move(path)) {}
  void write_cached(std::uint64_t offset, std::span<const std::byte> from);
  std::size_t write_direct(std::uint64_t offset, std::span<const std::byte> pages);
  int descriptor_ = -1;
  int direct_ = -1;  // the same file, opened with O_DIRECT, if it may be
  fs::path path_;
};

/// The whole of a small file; Error(bad_input) if it has more than `limit` bytes.
std::string read_text(const fs::path& path, std::uint64_t limit);
/// Writes a sibling, syncs it and renames it over `path`: readers see the old text or the new one.
void write_text_atomically(const fs::path& path, std::string_view text);
/// That sibling.
fs::path half_written(fs::path path);
/// Removes what a crash in the middle of that has left.
void remove_half_written(const fs::path& path);
/// Makes renames and new names in a directory durable.
void sync_directory(const fs::path& directory);
/// rename(2), then the parent directory is synced.
void rename_durably(const fs::path& from, const fs::path& to);
/// Bytes that a user without privileges may still write in the file system of `path` (or its nearest parent).
std::uint64_t free_space(const fs::path& path);
/// Throws Error(bad_input) if the last part of `path` is a longer name than its folder's file system takes.
void check_name(const fs::path& path);
/// `path` without a slash at its end.
fs::path without_slash(const fs::path& path);
/// Whether `inner` is `outer` or below it. Both normal.
bool is_within(const fs::path& inner, const fs::path& outer);
/// `path` without trailing slashes, absolute, links resolved as far as it exists.
fs::path normal_path(const fs::path& path);

}  // namespace lox
