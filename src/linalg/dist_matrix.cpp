// SPDX-License-Identifier: MIT
#include "lox/linalg/dist_matrix.hpp"

#include "lox/base/error.hpp"

#include <algorithm>

namespace lox {

DistMatrix::DistMatrix(const ProcessGrid& grid, Index rows, Index cols, int block)
    : grid_(&grid), rows_(rows), cols_(cols), block_(block) {
  if (!grid.is_active()) return;
  local_rows_ = local_count(rows, block, grid.row(), grid.shape().rows);
  local_cols_ = local_count(cols, block, grid.col(), grid.shape().cols);
  scalapack::to_int(local_rows_ * local_cols_, "local part of a distributed matrix");
  // Never empty: ScaLAPACK looks at the pointer even where a process holds nothing.
  buffer_ = Buffer(static_cast<std::size_t>(std::max<Index>(local_rows_ * local_cols_, 1)) * sizeof(float));
}

Index DistMatrix::global_row(Index local) const {
  return global_index(local, block_, grid_->row(), grid_->shape().rows);
}
Index DistMatrix::global_col(Index local) const {
  return global_index(local, block_, grid_->col(), grid_->shape().cols);
}

scalapack::Descriptor DistMatrix::descriptor() const {
  return scalapack::make_descriptor(grid_->context(), rows_, cols_, block_, block_, local_rows_);
}

void DistMatrix::insert_columns(Index first, Index count, Index width, const float* slab,
                                const ProcessGrid& everyone) {
  const scalapack::Descriptor slabs =
      scalapack::make_descriptor(everyone.context(), rows_, count, rows_, width, rows_);
  scalapack::redistribute(rows_, count, slab, slabs, data(), 0, first, descriptor(), everyone.context());
}

Panel DistMatrix::gather(Index count, bool transposed) const {
  Panel whole = Panel::Zero(transposed ? cols_ : rows_, count);
  for (Index j = 0; j < local_cols_; ++j) {
    const Index col = global_col(j);
    for (Index i = 0; i < local_rows_; ++i) {
      const Index row = global_row(i);
      if (transposed && row < count) whole(col, row) = data()[j * local_rows_ + i];
      if (!transposed && col < count) whole(row, col) = data()[j * local_rows_ + i];
    }
  }
  sum_panel(grid_->comm().get(), whole);
  return whole;
}

namespace {

template <class P>
void sum_in_pieces(MPI_Comm comm, P& panel, MPI_Datatype type) {
  constexpr Index at_once = Index{64} << 20;
  for (Index first = 0; first < panel.size(); first += at_once) {
    const auto count = static_cast<int>(std::min(at_once, panel.size() - first));
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, panel.data() + first, count, type, MPI_SUM, comm), "MPI_Allreduce");
  }
}

}  // namespace

void sum_panel(MPI_Comm comm, Panel& panel) {
  sum_in_pieces(comm, panel, MPI_FLOAT);
}

void sum_panel(MPI_Comm comm, Small& panel) {
  sum_in_pieces(comm, panel, MPI_DOUBLE);
}

}  // namespace lox
