// SPDX-License-Identifier: MIT
#include "lox/io/storage.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"
#include "lox/base/site.hpp"
#include "lox/io/hdf5.hpp"
#include "lox/io/parts.hpp"
#include "lox/io/quantised.hpp"
#include "lox/io/view.hpp"

#include <algorithm>

namespace lox {
namespace {

/// Files a storage keeps open: models may carry more files than a process may open. Up to three storages are
/// at work in a process, and a file may take two descriptors; the rest is for MPI.
std::size_t most_open_files() {
  return std::clamp<std::size_t>(open_file_limit() / 16, 2, 256);
}

void check_range(const Extent& extent, std::uint64_t first, std::uint64_t count) {
  if (first > extent.bytes || count > extent.bytes - first) {
    fail(ExitCode::internal, "bytes {} to {} of an extent of {}", first, first + count, extent.bytes);
  }
}

}  // namespace

FileStorage::FileStorage(const Checkpoint& checkpoint, Access access)
    : checkpoint_(checkpoint), access_(access) {
  if (access == Access::read) return;
  place_.emplace(checkpoint.path);
  if (!place_->is_folder()) (void)file(0);
}

/// A file of an output, in the folder that stood there when this storage was made.
File FileStorage::open_to_write(const fs::path& path) const {
  if (!place_->is_folder()) return File::open_write(path);
  return File::open_write_in(place_->descriptor(), path.lexically_relative(checkpoint_.path), path);
}

std::shared_ptr<File> FileStorage::file(int index) {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(index);
  if (found != files_.end()) return found->second;
  const fs::path& path = checkpoint_.files.at(static_cast<std::size_t>(index));
  while (files_.size() >= most_open_files()) files_.erase(files_.begin());
  auto file = std::make_shared<File>(access_ == Access::read ? File::open_read(path) : open_to_write(path));
  return files_.emplace(index, std::move(file)).first->second;
}

void FileStorage::read(const TensorInfo& tensor, std::uint64_t first, std::span<std::byte> to) {
  if (tensor.quantised) return read_rounded(*this, checkpoint_.files, tensor, first, to);
  if (tensor.view) return read_view(*this, tensor, first, to);
  if (tensor.dataset.empty() && !tensor.parts) return read(tensor.extent, first, to);
  check_range(tensor.extent, first, to.size());
  if (tensor.parts) return read_parts(*this, tensor, first, to);
  read_hdf5_dataset(checkpoint_.files.at(static_cast<std::size_t>(tensor.extent.file)), tensor, first, to);
}

void FileStorage::will_read(const TensorInfo& tensor, std::uint64_t first, std::uint64_t bytes) {
  if (tensor.quantised) {
    const std::size_t width = element_bytes(tensor.dtype);
    return will_read(tensor.quantised->codes, first / width, bytes / width);
  }
  if (tensor.view) return will_read_view(*this, tensor, first, bytes);
  if (!tensor.dataset.empty()) return;
  const auto tell = [&](const Extent& extent, std::uint64_t at, std::uint64_t count) {
    file(extent.file)->will_read(extent.offset + at, count);
  };
  tensor.parts ? for_parts(tensor, first, bytes, tell) : tell(tensor.extent, first, bytes);
}
void FileStorage::read(const Extent& extent, std::uint64_t first, std::span<std::byte> to) {
  check_range(extent, first, to.size());
  if (!to.empty()) file(extent.file)->read(extent.offset + first, to);
}

void FileStorage::write(const Extent& extent, std::uint64_t first, std::span<const std::byte> from) {
  check_range(extent, first, from.size());
  if (from.empty()) return;
  file(extent.file)->write(extent.offset + first, from);
  const std::lock_guard lock(mutex_);
  written_.insert(extent.file);
}

void FileStorage::sync(const Extent& extent) {
  file(extent.file)->sync();
}

void FileStorage::sync_written() {
  std::set<int> files;
  {
    const std::lock_guard lock(mutex_);
    files.swap(written_);
  }
  for (const int index : files) file(index)->sync();
}

void copy_bytes(const ReadBytes& read, const TakeBytes& write, std::uint64_t position, std::uint64_t first,
                std::uint64_t last) {
  constexpr std::uint64_t at_once = std::uint64_t{32} << 20;
  if (first >= last) return;
  Buffer buffer(std::min(last - first, at_once), File::page_shift(position + first));
  for (std::uint64_t at = first; at < last; at += at_once) {
    const std::span<std::byte> piece = buffer.bytes().first(std::min(last - at, at_once));
    read(at, piece);
    write(at, piece);
  }
}

void copy_bytes(const ReadBytes& read, Storage& to, const Extent& target, std::uint64_t first,
                std::uint64_t last) {
  const auto write = [&](std::uint64_t at, std::span<const std::byte> bytes) { to.write(target, at, bytes); };
  copy_bytes(read, write, target.offset, first, last);
}

}  // namespace lox
