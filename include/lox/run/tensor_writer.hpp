// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/storage.hpp"
#include "lox/run/record.hpp"

#include <mutex>
#include <set>
#include <span>

namespace lox {

/// Writes tensors of one output of a task, and notes in records what it wrote. Thread-safe.
class TensorWriter {
 public:
  /// `number`: which one of the task's outputs.
  TensorWriter(int number, const Checkpoint& table, Storage& storage)
      : number_(number), table_(table), storage_(storage) {}

  const TensorInfo& tensor(int index) const { return table_.tensors[static_cast<std::size_t>(index)]; }
  /// Bytes of a tensor from position `first` on. This process alone writes the bytes [from, to) of the
  /// tensor; what shares a page with others becomes an edge of the record.
  void put(int tensor, std::uint64_t from, std::uint64_t to, std::uint64_t first,
           std::span<const std::byte> bytes, Record& record);
  /// All that was written since the last time is on disk when it returns.
  void sync();

 private:
  int number_;
  const Checkpoint& table_;
  Storage& storage_;
  std::mutex mutex_;
  std::set<int> unsynced_;  ///< files
};

}  // namespace lox
