// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/storage.hpp"
#include "lox/linalg/extrapolate.hpp"
#include "lox/run/solve.hpp"

#include <mutex>
#include <set>
#include <span>

namespace lox {

/// What of a matrix' Delta goes into a target: coef times its first k triplets.
struct Blend {
  Index k = full_rank;  ///< full_rank: as many as were solved for
  double coef = 1;
};

/// An output of a task: matrices of the leading model with a blend of their Delta added, and copies of its
/// other tensors. Thread-safe.
class Target {
 public:
  /// `number`: which one of the task's targets. `table` has the tensors of the leading model, in its order.
  Target(int number, const Checkpoint& table, Storage& storage, Blend blend)
      : number_(number), table_(table), storage_(storage), blend_(blend) {}

  const Blend& blend() const { return blend_; }
  /// Position in a file of a row of a matrix.
  std::uint64_t position(const MatrixRef& matrix, Index row) const;

  /// Rows [first, first + count) of a matrix, in place: aligned rows become edited ones. `delta`: of these
  /// rows, where the method is full; else it is not looked at.
  EditSummary apply(const Item& item, const Solved& solved, Index first, std::span<std::byte> rows,
                    std::span<const float> delta) const;
  /// Writes rows from `first` on, and notes them in `record`. This process alone writes the rows `mine` of
  /// the matrix; what shares a page with other rows or tensors becomes an edge of the record.
  void write(const MatrixRef& matrix, RowRange mine, Index first, std::span<const std::byte> rows,
             Record& record);
  /// Copies a whole tensor of the leading model.
  void copy(const Item& item, const ReadBytes& read, Record& record);
  /// All that was written since the last time is on disk when it returns.
  void sync();

 private:
  const TensorInfo& tensor(const MatrixRef& matrix) const;
  void put(int tensor, std::uint64_t from, std::uint64_t to, std::uint64_t first,
           std::span<const std::byte> bytes, Record& record);
  int number_;
  const Checkpoint& table_;
  Storage& storage_;
  Blend blend_;
  std::mutex mutex_;
  std::set<int> unsynced_;  ///< files
};

/// What an edit adds to a record. Throws Error(bad_input) if an entry has left the range of the dtype.
void add_edit(Record& record, DType dtype, const EditSummary& edit);

}  // namespace lox
