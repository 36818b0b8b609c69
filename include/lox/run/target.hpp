// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/extrapolate.hpp"
#include "lox/run/solve.hpp"
#include "lox/run/steps.hpp"
#include "lox/run/tensor_writer.hpp"

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
      : writer_(number, table, storage), blend_(blend) {}

  const Blend& blend() const { return blend_; }
  /// Position in a file of a row of a matrix.
  std::uint64_t position(const MatrixRef& matrix, Index row) const;

  /// Rows [first, first + count) of a matrix, in place and in the item's held_dtype(): aligned rows become
  /// edited ones, rounded to its dtype. `delta`: of these
  /// rows, if it is there: it is added itself where the method is full or Delta has no more than k triplets.
  /// Where the method is lora, the rows are the base's, and get Delta too.
  EditSummary apply(const Item& item, const Solved& solved, Index first, std::span<std::byte> rows,
                    std::span<const float> delta) const;
  /// Writes rows from `first` on, and notes them in `record`. This process alone writes the rows `mine` of
  /// the matrix; what shares a page with other rows or tensors becomes an edge of the record.
  void write(const MatrixRef& matrix, RowRange mine, Index first, std::span<const std::byte> rows,
             Record& record);
  /// All that was written since the last time is on disk when it returns.
  void sync() { writer_.sync(); }

 private:
  friend void copy_tensor(const Item& item, const ReadBytes& read, std::span<Target* const> targets,
                          Record& record);
  const TensorInfo& tensor(const MatrixRef& matrix) const;
  TensorWriter writer_;
  Blend blend_;
};

/// Edited rows as they are written: in the item's dtype. Those that are held in another one are rounded to
/// the front of `rows`.
std::span<std::byte> as_written(const Item& item, std::span<std::byte> rows);
/// What of a parcel's edited rows is written.
std::span<const std::byte> edited_rows(const Item& item, const Buffer& rows);

/// The rows that a parcel's targets get: its aligned rows with each one's blend of `solved`, whose u
/// begins with the first of them. Adds the edits to the record, whose action tells if there are any.
void edit_rows(Parcel& parcel, const Solved& solved, std::span<Target* const> targets);

/// Copies a whole tensor of the leading model to all targets, in one reading.
void copy_tensor(const Item& item, const ReadBytes& read, std::span<Target* const> targets, Record& record);

/// Writes what a parcel holds for each target: its edited rows, or a copy of the whole tensor.
void write_stretch(Parcel& parcel, const TensorInfo& tensor, const ReadBytes& read,
                   std::span<Target* const> targets);

/// What an edit adds to a record. Throws Error(bad_input) if an entry has left the range of the dtype.
void add_edit(Record& record, DType dtype, const EditSummary& edit);

}  // namespace lox
