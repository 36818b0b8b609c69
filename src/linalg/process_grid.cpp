// SPDX-License-Identifier: MIT
#include "lox/linalg/process_grid.hpp"

#include "lox/base/error.hpp"

#include <algorithm>

extern "C" {
int Csys2blacs_handle(MPI_Comm comm);
void Cfree_blacs_system_handle(int handle);
void Cblacs_gridinit(int* context, const char* order, int rows, int cols);
void Cblacs_gridinfo(int context, int* rows, int* cols, int* row, int* col);
void Cblacs_gridexit(int context);
}

namespace lox {

GridShape choose_grid(int ranks, Index m, Index n) {
  GridShape best;
  for (int size = ranks; size >= 1 && best.size() < size; --size) {
    for (int less = 1; less * less <= size; ++less) {
      if (size % less != 0 || (size / less > 4 * less && size > 4)) continue;
      best = {less, size / less};  // later ones are more square
    }
  }
  if ((m > n) != (best.rows > best.cols)) std::swap(best.rows, best.cols);
  return best;
}

int choose_block(const GridShape& shape, Index m, Index n) {
  const Index even = std::min(m, n) / (4 * std::max(shape.rows, shape.cols));
  return static_cast<int>(std::clamp<Index>(even / 8 * 8, 8, 128));
}

Index local_count(Index n, int block, int coordinate, int processes) {
  const Index blocks = n / block;
  const Index whole = blocks / processes * block;
  const Index extra = blocks % processes;
  if (coordinate < extra) return whole + block;
  if (coordinate == extra) return whole + n % block;
  return whole;
}

Index global_index(Index local, int block, int coordinate, int processes) {
  return (local / block * processes + coordinate) * block + local % block;
}

ProcessGrid::ProcessGrid(const Comm& comm, GridShape shape) : comm_(comm), shape_(shape) {
  if (shape.size() > comm.size()) {
    fail(ExitCode::internal, "a {} x {} grid on {} ranks", shape.rows, shape.cols, comm.size());
  }
  // BLACS looks at no result of MPI: a call that fails in there must end the program.
  check_mpi(MPI_Comm_dup(comm.get(), &blacs_comm_), "MPI_Comm_dup");
  check_mpi(MPI_Comm_set_errhandler(blacs_comm_, MPI_ERRORS_ARE_FATAL), "MPI_Comm_set_errhandler");
  handle_ = Csys2blacs_handle(blacs_comm_);
  context_ = handle_;
  Cblacs_gridinit(&context_, "Row", shape.rows, shape.cols);
  const bool expected = comm.rank() < shape.size();
  if (expected) {
    GridShape built;
    Cblacs_gridinfo(context_, &built.rows, &built.cols, &row_, &col_);
    if (built.rows != shape.rows || built.cols != shape.cols || row_ != comm.rank() / shape.cols ||
        col_ != comm.rank() % shape.cols) {
      fail(ExitCode::internal, "BLACS built a {} x {} grid with rank {} at ({}, {}) instead of {} x {}",
           built.rows, built.cols, comm.rank(), row_, col_, shape.rows, shape.cols);
    }
  } else {
    context_ = -1;
  }
  check_mpi(MPI_Comm_split(comm.get(), expected ? row_ : MPI_UNDEFINED, col_, &row_comm_), "MPI_Comm_split");
  check_mpi(MPI_Comm_split(comm.get(), expected ? col_ : MPI_UNDEFINED, row_, &col_comm_), "MPI_Comm_split");
}

ProcessGrid::~ProcessGrid() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized != 0) return;
  if (context_ >= 0) Cblacs_gridexit(context_);
  Cfree_blacs_system_handle(handle_);
  for (MPI_Comm* comm : {&row_comm_, &col_comm_, &blacs_comm_}) {
    if (*comm != MPI_COMM_NULL) MPI_Comm_free(comm);
  }
}

}  // namespace lox
