// SPDX-License-Identifier: MIT
#include "lox/linalg/process_grid.hpp"

#include <gtest/gtest.h>

extern "C" {
void Cblacs_get(int context, int what, int* value);
MPI_Comm Cblacs2sys_handle(int handle);
}

namespace lox {
namespace {

MPI_Errhandler handler_of(MPI_Comm comm) {
  MPI_Errhandler handler = MPI_ERRHANDLER_NULL;
  check_mpi(MPI_Comm_get_errhandler(comm, &handler), "MPI_Comm_get_errhandler");
  return handler;
}

/// BLACS and ScaLAPACK look at no result of MPI. Other calls are checked, and return their errors.
TEST(ProcessGrid, AFailedCallInsideBlacsEndsTheProgram) {
  const Comm comm = Comm::world();
  const ProcessGrid grid(comm, choose_grid(comm.size(), 64, 64));
  EXPECT_EQ(handler_of(comm.get()), MPI_ERRORS_RETURN);
  if (!grid.is_active()) return;
  EXPECT_EQ(handler_of(grid.row_comm()), MPI_ERRORS_RETURN);
  constexpr int system_handle = 10;
  int handle = -1;
  Cblacs_get(grid.context(), system_handle, &handle);
  EXPECT_EQ(handler_of(Cblacs2sys_handle(handle)), MPI_ERRORS_ARE_FATAL);
}

TEST(ProcessGrid, RanksSitRowByRow) {
  const Comm comm = Comm::world();
  const ProcessGrid grid(comm, choose_grid(comm.size(), 64, 64));
  if (comm.rank() >= grid.shape().size()) {
    EXPECT_FALSE(grid.is_active());
    EXPECT_EQ(grid.row_comm(), MPI_COMM_NULL);
    return;
  }
  EXPECT_EQ(grid.row() * grid.shape().cols + grid.col(), comm.rank());
  EXPECT_EQ(Comm(grid.row_comm()).size(), grid.shape().cols);
  EXPECT_EQ(Comm(grid.row_comm()).rank(), grid.col());
  EXPECT_EQ(Comm(grid.col_comm()).size(), grid.shape().rows);
  EXPECT_EQ(Comm(grid.col_comm()).rank(), grid.row());
}

}  // namespace
}  // namespace lox
