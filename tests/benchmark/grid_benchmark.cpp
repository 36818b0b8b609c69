// SPDX-License-Identifier: MIT
// The thin product of a block-cyclic matrix, as lox forms it (a local product and a sum along a row or column
// of the grid) and by p?gemm. Prints median seconds as JSON:  mpirun -n P grid_benchmark [ROWS COLS]; used by
// jobs/bench.sh grid.
#include "lox/base/random.hpp"
#include "lox/base/timer.hpp"
#include "lox/linalg/dist_matrix.hpp"
#include "lox/linalg/svd.hpp"
#include "lox/linalg/thin_product.hpp"

#include <algorithm>
#include <cstdlib>

#include "support/pgemm.hpp"
#include <fmt/core.h>

namespace lox {
namespace {

constexpr Index thin = krylov_block;

void fill(DistMatrix& matrix) {
  for (Index i = 0; i < matrix.local_rows() * matrix.local_cols(); ++i) {
    matrix.data()[i] =
        normal_at(static_cast<std::uint64_t>(matrix.grid().comm().rank()), static_cast<std::uint64_t>(i));
  }
}

template <class Action>
double median_seconds(const Comm& comm, Action action) {
  std::vector<double> seconds;
  for (int repeat = 0; repeat < 9; ++repeat) {
    comm.barrier();
    const Timer timer;
    action();
    seconds.push_back(comm.max(timer.seconds()));
  }
  std::nth_element(seconds.begin(), seconds.begin() + 4, seconds.end());
  return seconds[4];
}

void run(Index rows, Index cols) {
  const Comm comm = Comm::world();
  const ProcessGrid grid(comm, choose_grid(comm.size(), cols, rows));
  const int block = choose_block(grid.shape(), cols, rows);
  DistMatrix t(grid, cols, rows, block);  // the transpose, as everywhere
  DistMatrix right(grid, cols, thin, block);
  DistMatrix left(grid, rows, thin, block);
  fill(t);
  fill(right);
  fill(left);
  const RowMajorView local(t.data(), t.local_cols(), t.local_rows());
  const Panel x = Panel::Ones(t.local_rows(), thin);
  const Panel u = Panel::Ones(t.local_cols(), thin);
  Panel y;
  const auto own = [&](bool adjoint) {
    if (!grid.is_active()) return;
    if (adjoint) {
      multiply_adjoint(local, u, y);
      sum_panel(grid.row_comm(), y);
    } else {
      multiply(local, x, y);
      sum_panel(grid.col_comm(), y);
    }
  };
  const auto scalapacks = [&](bool adjoint) {
    if (!grid.is_active()) return;
    DistMatrix& from = adjoint ? left : right;
    DistMatrix& to = adjoint ? right : left;
    testing::pgemm(!adjoint, cols, rows, thin, t.data(), t.descriptor(), from.data(), from.descriptor(),
                   to.data(), to.descriptor());
  };
  const double seconds[] = {
      median_seconds(comm, [&] { own(false); }), median_seconds(comm, [&] { own(true); }),
      median_seconds(comm, [&] { scalapacks(false); }), median_seconds(comm, [&] { scalapacks(true); })};
  if (comm.is_root()) {
    fmt::print("{{\"own\": [{}, {}], \"pgemm\": [{}, {}]}}\n", seconds[0], seconds[1], seconds[2],
               seconds[3]);
  }
}

}  // namespace
}  // namespace lox

int main(int argc, char** argv) {
  const lox::MpiSession session(&argc, &argv);
  lox::run(argc > 2 ? std::atol(argv[1]) : 4096, argc > 2 ? std::atol(argv[2]) : 8192);
}
