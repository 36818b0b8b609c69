// SPDX-License-Identifier: MIT
#include "lox/run/tensor_writer.hpp"

#include "lox/base/checksum.hpp"
#include "lox/io/pages.hpp"

namespace lox {

void TensorWriter::put(int index, std::uint64_t from, std::uint64_t to, std::uint64_t first,
                       std::span<const std::byte> bytes, Record& record) {
  const Extent& whole = tensor(index).extent;
  const auto edge = [&](std::uint64_t at, std::span<const std::byte> part) {
    record.edges.push_back(
        {number_, index, from + at, part.size(), checksum(part), 0, 0, 0, {part.begin(), part.end()}});
  };
  write_own_pages(storage_, {whole.file, whole.offset + from, to - from}, first - from, bytes, edge);
  record.pieces.push_back({number_, index, first, bytes.size(), checksum(bytes)});
  record.timing.bytes_written += bytes.size();
  const std::lock_guard lock(mutex_);
  unsynced_.insert(whole.file);
}

void TensorWriter::sync() {
  std::set<int> files;
  {
    const std::lock_guard lock(mutex_);
    files.swap(unsynced_);
  }
  for (const int file : files) storage_.sync(Extent{file, 0, 0});
}

}  // namespace lox
