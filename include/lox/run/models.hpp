// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/buffer.hpp"
#include "lox/base/checksum.hpp"
#include "lox/io/storage.hpp"
#include "lox/io/storage.hpp"
#include "lox/linalg/delta.hpp"
#include "lox/plan/plan.hpp"

namespace lox {

/// The three checkpoints of a job. Tensors of `output` are in the order of `aligned`.
struct Models {
  Checkpoint base;
  Checkpoint aligned;
  Checkpoint output;
};

/// What both models hold in some rows of a matrix.
struct PairContent {
  Content aligned;
  Content base;
  void add(const PairContent& other);
};

/// Some rows of a matrix: the aligned bytes, the delta, and what was found on the way.
struct RowSlab {
  Buffer aligned;
  Buffer delta;  ///< floats
  DeltaSummary summary;
  PairContent content;
  std::uint64_t bytes_read = 0;
};

/// The open files of a job and the rows in them. Thread-safe.
class ModelFiles {
 public:
  ModelFiles(const Models& models, const Plan& plan);

  const TensorInfo& base_of(const WorkItem& item) const;
  const TensorInfo& aligned_of(const WorkItem& item) const;
  const TensorInfo& output_of(const WorkItem& item) const;

  /// Rows [first, first + count) of the item's matrix. The base is subtracted piece by piece and never held.
  /// Throws Error(bad_input) for NaN and Inf, naming model, tensor and index.
  RowSlab read_rows(const WorkItem& item, Index first, Index count);
  Buffer read_aligned(const WorkItem& item, Index first, Index count);
  void write_rows(const WorkItem& item, Index first, std::span<const std::byte> rows);

  Storage& aligned() { return aligned_; }
  Storage& output() { return output_; }
  /// First byte of a row of the item's matrix in the output tensor.
  std::uint64_t row_offset(const WorkItem& item, Index row) const;

 private:
  const Models& models_;
  const Plan& plan_;
  FileStorage base_;
  FileStorage aligned_;
  FileStorage output_;
};

/// Bytes that an item moves, for progress: what it reads and what it writes.
std::uint64_t item_bytes(const Models& models, const Plan& plan, const WorkItem& item);

}  // namespace lox
