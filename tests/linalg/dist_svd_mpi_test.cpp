// SPDX-License-Identifier: MIT
#include "lox/linalg/dist_svd.hpp"

#include <algorithm>
#include <cmath>

#include "linalg/spectra.hpp"
#include "support/pgemm.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

/// Deals a matrix that every rank has (tests only) to the grid: rank p inserts its slab of rows, band by
/// band.
DistMatrix deal(const RowMajorMatrix& a, const ProcessGrid& grid, const ProcessGrid& everyone, Index band,
                int block) {
  const Comm& comm = grid.comm();
  DistMatrix t(grid, a.cols(), a.rows(), block);
  for (Index first = 0; first < a.rows(); first += band) {
    const Index count = std::min(band, a.rows() - first);
    const Index width = (count + comm.size() - 1) / comm.size();
    const Index mine = std::min(comm.rank() * width, count);
    t.insert_columns(first, count, width, a.data() + (first + mine) * a.cols(), everyone);
  }
  return t;
}

TEST(DistMatrix, DealsEveryEntryToItsPlace) {
  const Comm comm = Comm::world();
  const ProcessGrid everyone(comm, {1, comm.size()});
  for (const auto& [m, n] :
       std::vector<std::pair<Index, Index>>{{301, 200}, {37, 300}, {1, 9}, {9, 1}, {64, 64}}) {
    for (const Index band : {Index{1000}, Index{50}}) {
      const RowMajorMatrix a = noise(m, n, 1);
      const ProcessGrid grid(comm, choose_grid(comm.size(), n, m));
      const DistMatrix t = deal(a, grid, everyone, band, choose_block(grid.shape(), n, m));
      std::int64_t held = 0;
      for (Index j = 0; j < t.local_cols(); ++j) {
        for (Index i = 0; i < t.local_rows(); ++i) {
          ASSERT_EQ(t.local()(i, j), a(t.global_col(j), t.global_row(i)));
          ++held;
        }
      }
      EXPECT_EQ(comm.sum(held), m * n);
      EXPECT_TRUE(t.gather(std::min<Index>(m, 3), false) ==
                  Panel(a.transpose().leftCols(std::min<Index>(m, 3))));
      EXPECT_TRUE(t.gather(std::min<Index>(n, 3), true) == Panel(a.leftCols(std::min<Index>(n, 3))));
    }
  }
}

/// As many equal singular values as rows; the entries are in the order of a permutation.
RowMajorMatrix permutation(Index n) {
  RowMajorMatrix a = RowMajorMatrix::Zero(n, n);
  for (Index i = 0; i < n; ++i) a(i, (7 * i + 3) % n) = 0.25F;
  return a;
}

/// s_1 / s_2 is about 1e7.
RowMajorMatrix outlier(Index m, Index n) {
  RowMajorMatrix a = noise(m, n, 1e-4);
  a(m / 3, n / 2) = 3e4F;
  return a;
}

TEST(DistSvd, AgreesWithTheLocalSolver) {
  const Comm comm = Comm::world();
  const ProcessGrid everyone(comm, {1, comm.size()});
  struct Case {
    const char* name;
    RowMajorMatrix a;
    Index k;
  };
  const std::vector<Case> cases{
      {"planted", planted(400, 300, {8, 7, 6, 5, 4, 3, .01, .009}).matrix().cast<float>(), 6},
      {"power law, tall", planted(600, 300, power_law(300, 0.8)).matrix().cast<float>(), 6},
      {"power law, wide", planted(300, 600, power_law(300, 0.8)).matrix().cast<float>(), 6},
      {"noise", noise(400, 300, 1e-3), 6},
      {"zero", RowMajorMatrix::Zero(300, 300), 6},
      {"rank below k", planted(300, 310, {3, 2}).matrix().cast<float>(), 6},
      {"k = 30", planted(400, 350, power_law(300, 0.6)).matrix().cast<float>(), 30},
      {"small", noise(20, 30, 1), 6},
      {"k = min(m, n)", noise(24, 100, 1), 24},
      {"equal values", permutation(320), 40},
      {"an outlier", outlier(300, 310), 6},
      {"flat", noise(3, 50001, 1), 1},
      {"tall", noise(50001, 3, 1), 1},
      {"two entries", noise(2, 1, 1), 1},
      {"a row", noise(1, 50, 1), 6},
      {"a column", noise(50, 1, 1), 6},
  };
  for (const Case& c : cases) {
    for (const Method method : {Method::krylov, Method::exact}) {
      if (method == Method::exact && c.a.size() > 310 * 310) continue;  // p?gesvd takes its time
      SCOPED_TRACE(fmt::format("{} {} on {} ranks", c.name, method_name(method), comm.size()));
      SvdOptions options;
      options.k = c.k;
      options.method = method;
      options.delta_error = 1e-4;
      const SvdResult local = truncated_svd(RowMajorView(c.a.data(), c.a.rows(), c.a.cols()), options);
      const ProcessGrid grid(comm, choose_grid(comm.size(), c.a.cols(), c.a.rows()));
      const DistMatrix t = deal(c.a, grid, everyone, 128, choose_block(grid.shape(), c.a.cols(), c.a.rows()));
      const SvdResult dist = dist_svd(t, options);
      const bool exact = method == Method::exact || prefers_exact_on_grid(c.a.rows(), c.a.cols());
      EXPECT_EQ(dist.method, exact ? Method::exact : Method::krylov);
      EXPECT_TRUE(dist.certificate.holds(options.tolerance));
      EXPECT_LE(dist.missed.epsilon, options.proof);
      ASSERT_EQ(dist.factors.sigma.size(), local.factors.sigma.size());
      for (std::size_t i = 0; i < dist.factors.sigma.size(); ++i) {
        EXPECT_NEAR(dist.factors.sigma[i], local.factors.sigma[i], 1e-5 * local.factors.sigma[i]);
      }
      const Small expected = product(local.factors);
      if (dist.settled) {
        EXPECT_LE((product(dist.factors) - expected).norm(), 1e-3 * expected.norm());
      }
      const auto same_everywhere = [&](const Small& panel) {
        return comm.max(panel.sum()) == -comm.max(-panel.sum());
      };
      EXPECT_TRUE(same_everywhere(dist.factors.u));
      EXPECT_TRUE(same_everywhere(dist.factors.v));
    }
  }
}

TEST(DistSvd, SettlesOrNamesEveryK) {
  const Comm comm = Comm::world();
  const ProcessGrid everyone(comm, {1, comm.size()});
  const Planted p = planted(400, 300, {8, 8, 6, 5, 5, 3, 2.5, 2, 1.5, 1, 0.5, 0.2, 0.1});
  const RowMajorMatrix a = p.matrix().cast<float>();
  const ProcessGrid grid(comm, choose_grid(comm.size(), a.cols(), a.rows()));
  const DistMatrix t = deal(a, grid, everyone, 128, choose_block(grid.shape(), a.cols(), a.rows()));
  for (const Method method : {Method::krylov, Method::exact}) {
    SCOPED_TRACE(method_name(method));
    SvdOptions options;
    options.k = 9;
    options.method = method;
    options.delta_error = 1e-3;
    options.norm_squared = p.sigma.squaredNorm();
    options.every_k = EveryK::settled;
    const SvdResult result = dist_svd(t, options);
    EXPECT_EQ(result.method, method);
    ASSERT_EQ(result.residuals.size(), 9U);
    EXPECT_EQ(*std::max_element(result.residuals.begin(), result.residuals.end()),
              result.certificate.residual);
    std::vector<Index> ties;
    for (const Unsettled& one : result.unsettled) ties.push_back(one.k);
    // On every rank. In double even these may be told apart: rounding to float has split them.
    if (method == Method::krylov || !ties.empty()) {
      EXPECT_EQ(ties, (std::vector<Index>{1, 4}));
    }
    EXPECT_TRUE(result.settled);
    for (const Index k : {2, 3, 5, 6, 7, 8, 9}) {
      const Factors first{result.factors.u.leftCols(k),
                          {result.factors.sigma.begin(), result.factors.sigma.begin() + k},
                          result.factors.v.leftCols(k)};
      const Small exact = p.u.leftCols(k) * p.sigma.head(k).asDiagonal() * p.v.leftCols(k).transpose();
      EXPECT_LE((product(first) - exact).norm(), options.delta_error) << k;
    }
  }
}

TEST(Scalapack, GemmMultipliesOnTheGrid) {
  const Comm comm = Comm::world();
  const ProcessGrid everyone(comm, {1, comm.size()});
  const ProcessGrid grid(comm, choose_grid(comm.size(), 110, 150));
  const RowMajorMatrix a = noise(150, 110, 1);
  const RowMajorMatrix x = noise(4, 110, 1, 5);  // held transposed: a 110 x 4 panel
  const DistMatrix t = deal(a, grid, everyone, 1000, 8);
  const DistMatrix right = deal(x, grid, everyone, 1000, 8);
  DistMatrix left(grid, 150, 4, 8);
  if (grid.is_active()) {
    testing::pgemm(true, 110, 150, 4, t.data(), t.descriptor(), right.data(), right.descriptor(), left.data(),
                   left.descriptor());
  }
  EXPECT_LE((left.gather(4, false) - Panel(a * x.transpose())).cwiseAbs().maxCoeff(), 1e-4);
}

}  // namespace
}  // namespace lox
