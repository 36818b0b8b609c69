// SPDX-License-Identifier: MIT
#include "lox/linalg/thin_product.hpp"

#include "lox/linalg/libraries.hpp"

#include <array>
#include <cmath>

#include "linalg/spectra.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

/// Largest error of a product against double, in units of a float's rounding times |a_i| |x_j|.
double error(const Small& exact, const Panel& found, const Small& sizes) {
  return ((found.cast<double>() - exact).array() / sizes.array().max(1e-300)).abs().maxCoeff() * 0x1p24;
}

TEST(ThinProduct, AgreesWithDoubleForAnyShape) {
  for (const auto& [m, n] : {std::pair<Index, Index>{1, 1},
                             {1, 700},
                             {700, 1},
                             {13, 17},
                             {97, 2049},
                             {2049, 97},
                             {600, 4100},
                             {4100, 600}}) {
    const RowMajorMatrix a = noise(m, n, 1);
    const RowMajorView view(a.data(), m, n);
    const Small wide = a.cast<double>();
    for (const Index columns : {1, 6, 16, 17, 32, 40}) {
      const Panel x = noise(n, columns, 1, 3);
      const Panel y = noise(m, columns, 1, 4);
      Panel found;
      multiply(view, x, found);
      ASSERT_EQ(found.rows(), m);
      ASSERT_EQ(found.cols(), columns);
      // Rounding of a sum in blocks: far below that of one after the other for long sums.
      EXPECT_LT(
          error(wide * x.cast<double>(), found, wide.rowwise().norm() * x.cast<double>().colwise().norm()),
          40)
          << m << " x " << n << ", " << columns;
      multiply_adjoint(view, y, found);
      ASSERT_EQ(found.rows(), n);
      EXPECT_LT(error(wide.transpose() * y.cast<double>(), found,
                      wide.colwise().norm().transpose() * y.cast<double>().colwise().norm()),
                40)
          << m << " x " << n << ", " << columns;
      Panel image;
      Panel back;
      multiply_both(view, x, image, y, back);
      EXPECT_EQ(back, found);
      multiply(view, x, found);
      EXPECT_EQ(image, found);
      multiply_adjoint(view, image, found);
      multiply_both(view, x, image, image, back);
      EXPECT_EQ(back, found);
    }
  }
}

TEST(ThinProduct, OverwritesWhatWasThere) {
  const RowMajorMatrix a = noise(20, 30, 1);
  const RowMajorView view(a.data(), 20, 30);
  const Panel x = noise(30, 3, 1);
  const Panel u = noise(20, 3, 1);
  Panel y;
  Panel z;
  multiply_both(view, x, y, u, z);
  const auto dirty = [](Index rows) -> Panel {
    return Panel::Constant(rows, 3, std::numeric_limits<float>::quiet_NaN());
  };
  Panel image = dirty(20);
  multiply(view, x, image);
  EXPECT_EQ(image, y);
  Panel back = dirty(30);
  multiply_adjoint(view, u, back);
  EXPECT_EQ(back, z);
  image = dirty(20);
  back = dirty(30);
  multiply_both(view, x, image, u, back);
  EXPECT_EQ(image, y);
  EXPECT_EQ(back, z);
}

/// What is not a number stays in its row of y and its column's row of z.
TEST(ThinProduct, NotANumberStaysWhereItIs) {
  RowMajorMatrix a = noise(50, 70, 1);
  a(33, 67) = std::numeric_limits<float>::infinity();
  Panel y;
  Panel z;
  multiply_both({a.data(), 50, 70}, noise(70, 9, 1), y, noise(50, 9, 1), z);
  for (Index i = 0; i < 50; ++i) EXPECT_EQ(y.row(i).array().isFinite().all(), i != 33) << i;
  for (Index j = 0; j < 70; ++j) EXPECT_EQ(z.row(j).array().isFinite().all(), j != 67) << j;
}

/// Lane by lane, as every instruction set is to sum up.
TEST(ThinProduct, InstructionSetChangesNothing) {
#if defined(__SANITIZE_ADDRESS__) || !defined(NDEBUG)
  GTEST_SKIP() << "products are fused with sums at -O2 and above";
#endif
  if (std::string(thin_product_kernel()) == "blas") GTEST_SKIP() << "a BLAS sums up as it likes";
  constexpr Index m = 20;
  constexpr Index n = 1003;
  constexpr Index lanes = 16;
  constexpr Index tile = 512;
  const RowMajorMatrix a = noise(m, n, 1);
  const Panel x = noise(n, 9, 1, 3);
  const Panel u = noise(m, 9, 1, 4);
  Panel y;
  Panel z;
  multiply_both({a.data(), m, n}, x, y, u, z);
  for (Index c = 0; c < x.cols(); ++c) {
    for (Index i = 0; i < m; ++i) {
      std::array<float, lanes> sum{};
      std::array<float, lanes> part{};
      for (Index j = 0; j < n; ++j) {
        if (j % tile == 0 || j == n / lanes * lanes) {
          for (std::size_t l = 0; l < lanes; ++l) sum[l] += part[l];
          part = {};
          if (j > tile) part.swap(sum);  // the last few go to the sum at once
        }
        float& lane = part[static_cast<std::size_t>(j % lanes)];
        lane = std::fma(a(i, j), x(j, c), lane);
      }
      for (std::size_t l = 0; l < lanes; ++l) sum[l] += part[l];
      for (std::size_t half = lanes / 2; half > 2; half /= 2) {
        for (std::size_t l = 0; l < half; ++l) sum[l] += sum[l + half];
      }
      EXPECT_EQ(y(i, c), (sum[0] + sum[1]) + (sum[2] + sum[3])) << i << ", " << c;
    }
    for (Index j = 0; j < n; ++j) {
      float sum = 0;
      for (Index i = 0; i < m; ++i) sum = std::fma(a(i, j), u(i, c), sum);
      EXPECT_EQ(z(j, c), sum) << j << ", " << c;
    }
  }
}

TEST(ThinProduct, NumberOfThreadsChangesNothing) {
  if (std::string(thin_product_kernel()) == "blas") GTEST_SKIP() << "a BLAS promises nothing of the kind";
  const RowMajorMatrix a = noise(999, 3001, 1);
  const RowMajorView view(a.data(), 999, 3001);
  const Panel x = noise(3001, 16, 1);
  const Panel y = noise(999, 16, 1);
  const int before = max_threads();
  std::vector<std::vector<Panel>> found;
  for (const int threads : {1, 3, 5}) {
    set_threads(threads);
    std::vector<Panel> products(6);
    multiply(view, x, products[0]);
    multiply_adjoint(view, y, products[1]);
    multiply_both(view, x, products[2], y, products[3]);
    multiply_both(view, x, products[4], products[4], products[5]);
    found.push_back(products);
  }
  set_threads(before);
  EXPECT_EQ(found[0], found[1]);
  EXPECT_EQ(found[0], found[2]);
}

}  // namespace
}  // namespace lox
