// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/buffer.hpp"
#include "lox/linalg/process_grid.hpp"
#include "lox/linalg/scalapack.hpp"

namespace lox {

/// A rows x cols matrix dealt block-cyclically over a process grid, square blocks, column major in each
/// process. A row-major weight matrix W (m x n) is held as its transpose (n x m), which its bytes already
/// are.
class DistMatrix {
 public:
  DistMatrix(const ProcessGrid& grid, Index rows, Index cols, int block);

  const ProcessGrid& grid() const { return *grid_; }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  int block() const { return block_; }
  Index local_rows() const { return local_rows_; }  ///< 0 outside the grid
  Index local_cols() const { return local_cols_; }
  Index global_row(Index local) const;
  Index global_col(Index local) const;
  float* data() { return reinterpret_cast<float*>(buffer_.data()); }
  const float* data() const { return reinterpret_cast<const float*>(buffer_.data()); }
  Eigen::Map<Panel> local() { return {data(), local_rows_, local_cols_}; }
  Eigen::Map<const Panel> local() const { return {data(), local_rows_, local_cols_}; }
  scalapack::Descriptor descriptor() const;

  /// Columns [first, first + cols(slab) of all ranks) from slabs that the ranks of `everyone` (a 1 x P grid
  /// of all ranks) hold: rank p has `width` columns from p * width on, the last ones fewer. Collective over
  /// all ranks.
  void insert_columns(Index first, Index count, Index width, const float* slab, const ProcessGrid& everyone);

  /// rows x count: the first `count` columns, whole, on every rank (count rows of the transpose if
  /// `transposed`). Collective over all ranks of the grid's communicator.
  Panel gather(Index count, bool transposed) const;

 private:
  const ProcessGrid* grid_;
  Index rows_;
  Index cols_;
  int block_;
  Index local_rows_ = 0;
  Index local_cols_ = 0;
  Buffer buffer_;
};

/// Sums a panel over all ranks, in place, in messages of bounded size. Collective.
void sum_panel(MPI_Comm comm, Panel& panel);
void sum_panel(MPI_Comm comm, Small& panel);

}  // namespace lox
