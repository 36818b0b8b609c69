// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/buffer.hpp"
#include "lox/base/checksum.hpp"
#include "lox/io/storage.hpp"
#include "lox/linalg/delta.hpp"
#include "lox/plan/item.hpp"

namespace lox {

/// What both models hold in some rows of a matrix.
struct PairContent {
  Content aligned;
  Content base;
  void add(const PairContent& other);
};

/// Some rows of a matrix: the aligned bytes, the delta, and what was found on the way.
struct RowSlab {
  Buffer aligned;  ///< floats if the tensor is quantised
  Buffer delta;    ///< floats
  DeltaSummary summary;
  PairContent content;
  double aligned_squares = 0;  ///< |aligned rows|_F^2; of read_beside() only
  std::uint64_t bytes_read = 0;
};

/// What changes rows of a model as they are read.
class RowUpdate {
 public:
  virtual ~RowUpdate() = default;
  /// Whether it changes any rows of a matrix.
  virtual bool changes(const MatrixRef& matrix) const = 0;
  /// Changes whole rows of a matrix from `first` on.
  virtual void apply(const MatrixRef& matrix, Index first, std::span<std::byte> rows) const = 0;
};

/// A model to be read: its table and its bytes.
struct OpenModel {
  const Checkpoint* table;
  Storage* storage;
  std::string_view name = {};         ///< in messages; empty: by its role
  const RowUpdate* update = nullptr;  ///< of an aligned model
};

/// Bytes on disk of so many entries, without scales.
std::uint64_t stored_bytes(const TensorInfo& tensor, std::uint64_t entries);

/// First byte of a row of a matrix in its tensor.
std::uint64_t row_offset(const MatrixRef& matrix, DType dtype, Index row);

/// Reads rows of matrices from a pair of models. Thread-safe.
class RowReader {
 public:
  /// `models`: by Role.
  explicit RowReader(std::vector<OpenModel> models) : models_(std::move(models)) {}

  const TensorInfo& tensor(const MatrixRef& matrix, Role role) const;

  /// Rows [first, first + count) of the delta and of the aligned model. The base is subtracted piece by piece
  /// and never held. Throws Error(bad_input) for NaN and Inf, naming model, tensor and index. `target`: the
  /// position in a file that the aligned rows will be written to; memory is laid out so that they can be
  /// written from where they are.
  RowSlab read(const MatrixRef& matrix, Index first, Index count, std::uint64_t target = 0) const;
  /// The delta of a whole matrix whose base rows are in memory already. The aligned ones are read piece by
  /// piece and not kept.
  RowSlab read_beside(const MatrixRef& matrix, std::span<const std::byte> base) const;
  /// The base rows of a whole matrix alone, likewise.
  Buffer read_base(const MatrixRef& matrix) const;
  /// Tells the disk that the aligned rows of a matrix will be read soon.
  void will_read(const MatrixRef& matrix) const;
  /// The aligned rows alone, in the value_dtype() of their tensor.
  Buffer read_aligned(const MatrixRef& matrix, Index first, Index count, std::uint64_t target = 0) const;
  /// Bytes of a whole tensor of the aligned model, in its dtype.
  void read_bytes(const MatrixRef& matrix, std::uint64_t first, std::span<std::byte> to) const;

 private:
  bool is_updated(const MatrixRef& matrix) const;
  void read_entries(const MatrixRef& matrix, Role role, std::uint64_t first, std::span<std::byte> to,
                    double& noise) const;
  Buffer read_aligned(const MatrixRef& matrix, Index first, Index count, std::uint64_t target,
                      double& noise) const;
  void subtract_piece(const MatrixRef& matrix, std::uint64_t number, std::span<const std::byte> ours,
                      std::span<const std::byte> theirs, std::span<float> delta, RowSlab& slab) const;
  std::vector<OpenModel> models_;
};

}  // namespace lox
