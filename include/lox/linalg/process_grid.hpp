// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/mpi.hpp"
#include "lox/linalg/matrix.hpp"

namespace lox {

struct GridShape {
  int rows = 1;
  int cols = 1;
  int size() const { return rows * cols; }
};

/// The grid for an m x n matrix on so many ranks: the largest one whose sides differ by a factor of at most
/// four (so 5 ranks make 2 x 2, 7 make 2 x 3; the others stay outside), the most square of that size, its
/// longer side along the longer side of the matrix.
GridShape choose_grid(int ranks, Index m, Index n);

/// Block size for an m x n matrix: at least four blocks a process along the shorter side where possible, so
/// that the work is even; between 8 and 128.
int choose_block(const GridShape& shape, Index m, Index n);

/// How many of n indices process `coordinate` of `processes` holds when blocks are dealt cyclically.
Index local_count(Index n, int block, int coordinate, int processes);
/// The global index of that process's local index.
Index global_index(Index local, int block, int coordinate, int processes);

/// A BLACS process grid of the first rows x cols ranks of a communicator, row by row. Ranks outside are a
/// normal case: is_active() is false and their coordinates are -1. Made and destroyed collectively over the
/// communicator.
class ProcessGrid {
 public:
  /// Throws Error(internal) if BLACS built another grid than it was asked for.
  ProcessGrid(const Comm& comm, GridShape shape);
  ~ProcessGrid();
  ProcessGrid(const ProcessGrid&) = delete;
  ProcessGrid& operator=(const ProcessGrid&) = delete;

  GridShape shape() const { return shape_; }
  bool is_active() const { return row_ >= 0; }
  int row() const { return row_; }
  int col() const { return col_; }
  int context() const { return context_; }  ///< of BLACS; -1 outside the grid
  const Comm& comm() const { return comm_; }
  MPI_Comm row_comm() const { return row_comm_; }  ///< processes of my row; null outside the grid
  MPI_Comm col_comm() const { return col_comm_; }  ///< processes of my column

 private:
  Comm comm_;
  GridShape shape_;
  MPI_Comm blacs_comm_ = MPI_COMM_NULL;  ///< a copy of comm_ whose failures end the program
  int handle_ = -1;
  int context_ = -1;
  int row_ = -1;
  int col_ = -1;
  MPI_Comm row_comm_ = MPI_COMM_NULL;
  MPI_Comm col_comm_ = MPI_COMM_NULL;
};

}  // namespace lox
