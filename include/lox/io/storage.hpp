// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/anchor.hpp"
#include "lox/io/checkpoint.hpp"

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>

namespace lox {

/// The bytes of a checkpoint's tensors and other files. Positioned, thread-safe reads and writes that move
/// every byte or throw Error(io). An interface, so that tests can put memory, or a disk that fails, in the
/// place of files.
class Storage {
 public:
  virtual ~Storage() = default;

  /// Bytes [first, first + to.size()) of a tensor; of a quantised one its values in its dtype.
  virtual void read(const TensorInfo& tensor, std::uint64_t first, std::span<std::byte> to) = 0;
  virtual void read(const Extent& extent, std::uint64_t first, std::span<std::byte> to) = 0;
  /// These bytes will be read soon: a hint for the disk.
  virtual void will_read(const TensorInfo& tensor, std::uint64_t first, std::uint64_t bytes) = 0;
  virtual void write(const Extent& extent, std::uint64_t first, std::span<const std::byte> from) = 0;
  /// All bytes written to the file of this extent so far are on disk when it returns.
  virtual void sync(const Extent& extent) = 0;
};

/// The files of a checkpoint, opened on first use. `checkpoint` must outlive it. For writing, they are those
/// that stood there when the storage was made: another output that takes their place is not touched.
class FileStorage final : public Storage {
 public:
  enum class Access { read, write };
  FileStorage(const Checkpoint& checkpoint, Access access);

  void read(const TensorInfo& tensor, std::uint64_t first, std::span<std::byte> to) override;
  void read(const Extent& extent, std::uint64_t first, std::span<std::byte> to) override;
  void will_read(const TensorInfo& tensor, std::uint64_t first, std::uint64_t bytes) override;
  void write(const Extent& extent, std::uint64_t first, std::span<const std::byte> from) override;
  void sync(const Extent& extent) override;
  /// All bytes written so far are on disk when it returns.
  void sync_written();

 private:
  std::shared_ptr<File> file(int index);
  File open_to_write(const fs::path& path) const;
  const Checkpoint& checkpoint_;
  Access access_;
  std::optional<Anchor> place_;  ///< for writing
  std::set<int> written_;        ///< files, since they were synced
  std::mutex mutex_;
  std::map<int, std::shared_ptr<File>> files_;
};

/// Fills bytes from position `first` on of what is copied.
using ReadBytes = std::function<void(std::uint64_t first, std::span<std::byte> to)>;
/// Takes bytes from position `first` on.
using TakeBytes = std::function<void(std::uint64_t first, std::span<const std::byte> bytes)>;

/// Copies bytes [first, last), in pieces of 32 MiB. `position`: where byte 0 lies in the file that is
/// written.
void copy_bytes(const ReadBytes& read, const TakeBytes& write, std::uint64_t position, std::uint64_t first,
                std::uint64_t last);
/// The same, to a place of a storage.
void copy_bytes(const ReadBytes& read, Storage& to, const Extent& target, std::uint64_t first,
                std::uint64_t last);

}  // namespace lox
