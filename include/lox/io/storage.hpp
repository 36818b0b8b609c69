// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>

namespace lox {

/// The bytes of a checkpoint's tensors and other files. Positioned, thread-safe reads and writes that move
/// every byte or throw Error(io). An interface, so that tests can put memory, or a disk that fails, in the
/// place of files.
class Storage {
 public:
  virtual ~Storage() = default;

  /// Bytes [first, first + to.size()) of a tensor.
  virtual void read(const TensorInfo& tensor, std::uint64_t first, std::span<std::byte> to) = 0;
  virtual void read(const Extent& extent, std::uint64_t first, std::span<std::byte> to) = 0;
  /// These bytes will be read soon: a hint for the disk.
  virtual void will_read(const TensorInfo& tensor, std::uint64_t first, std::uint64_t bytes) = 0;
  virtual void write(const Extent& extent, std::uint64_t first, std::span<const std::byte> from) = 0;
  /// All bytes written to the file of this extent so far are on disk when it returns.
  virtual void sync(const Extent& extent) = 0;
};

/// The files of a checkpoint, opened on first use. `checkpoint` must outlive it.
class FileStorage final : public Storage {
 public:
  enum class Access { read, write };
  FileStorage(const Checkpoint& checkpoint, Access access) : checkpoint_(checkpoint), access_(access) {}

  void read(const TensorInfo& tensor, std::uint64_t first, std::span<std::byte> to) override;
  void read(const Extent& extent, std::uint64_t first, std::span<std::byte> to) override;
  void will_read(const TensorInfo& tensor, std::uint64_t first, std::uint64_t bytes) override;
  void write(const Extent& extent, std::uint64_t first, std::span<const std::byte> from) override;
  void sync(const Extent& extent) override;

 private:
  std::shared_ptr<File> file(int index);
  const Checkpoint& checkpoint_;
  Access access_;
  std::mutex mutex_;
  std::map<int, std::shared_ptr<File>> files_;
};

/// Fills bytes from position `first` on of what is copied.
using ReadBytes = std::function<void(std::uint64_t first, std::span<std::byte> to)>;
/// Sees bytes that have been written from position `first` on.
using SeeBytes = std::function<void(std::uint64_t first, std::span<const std::byte> bytes)>;

/// Copies bytes [first, last) of a place, in pieces of 32 MiB.
void copy_bytes(const ReadBytes& read, Storage& to, const Extent& target, std::uint64_t first,
                std::uint64_t last, const SeeBytes& written = {});

}  // namespace lox
