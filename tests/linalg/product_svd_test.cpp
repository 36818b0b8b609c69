// SPDX-License-Identifier: MIT
#include "lox/linalg/product_svd.hpp"

#include <algorithm>
#include <array>
#include <functional>

#include "linalg/spectra.hpp"
#include <Eigen/SVD>
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace lox {
namespace {

Small gaussian(Index rows, Index cols, std::uint64_t key) {
  Small x(rows, cols);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = normal_at(key, static_cast<std::uint64_t>(i));
  return x;
}

/// Against Eigen's Jacobi SVD of the product itself, which shares no code with LAPACK's: values, what the
/// triplets make together, what was measured.
void expect_svd_of_product(const Small& b, const Small& a, double scale, Index rank) {
  const Small product_itself = scale * b * a.transpose();
  const Eigen::VectorXd dense = Eigen::JacobiSVD<Small>(product_itself).singularValues();
  const double largest = dense[0];
  const ProductSvd svd = product_svd(b, a, scale);
  const Factors& f = svd.factors;
  ASSERT_EQ(static_cast<Index>(f.sigma.size()), rank);
  EXPECT_TRUE(std::ranges::is_sorted(f.sigma, std::greater<>()));
  ASSERT_EQ(f.u.rows(), b.rows());
  ASSERT_EQ(f.v.rows(), a.rows());
  ASSERT_EQ(f.u.cols(), rank);
  ASSERT_EQ(f.v.cols(), rank);
  for (Index i = 0; i < rank; ++i) {
    EXPECT_NEAR(f.sigma[static_cast<std::size_t>(i)], dense[i], 1e-13 * largest) << i;
  }
  EXPECT_LE((product(f) - product_itself).norm(), 1e-13 * largest * std::sqrt(static_cast<double>(rank) + 1));
  const Small one = Small::Identity(rank, rank);
  const double off = rank == 0 ? 0
                               : std::max((f.u.transpose() * f.u - one).cwiseAbs().maxCoeff(),
                                          (f.v.transpose() * f.v - one).cwiseAbs().maxCoeff());
  EXPECT_LE(off, 1e-13);
  EXPECT_NEAR(svd.certificate.orthogonality, off, 1e-14);
  // The residuals, by the dense product.
  ASSERT_EQ(static_cast<Index>(svd.residuals.size()), rank);
  double worst = 0;
  for (Index i = 0; i < rank; ++i) {
    const double sigma = f.sigma[static_cast<std::size_t>(i)];
    const double residual = std::max((product_itself * f.v.col(i) - sigma * f.u.col(i)).norm(),
                                     (product_itself.transpose() * f.u.col(i) - sigma * f.v.col(i)).norm()) /
                            sigma;
    worst = std::max(worst, svd.residuals[static_cast<std::size_t>(i)]);
    EXPECT_NEAR(svd.residuals[static_cast<std::size_t>(i)], residual, 1e-13 * largest / sigma) << i;
  }
  EXPECT_EQ(svd.certificate.residual, worst);
}

TEST(ProductSvd, OfThinFactors) {
  for (const auto& [m, n, r] : {std::array<Index, 3>{40, 30, 4}, {30, 40, 1}, {7, 200, 7}, {64, 64, 16}}) {
    SCOPED_TRACE(fmt::format("{} x {}, r = {}", m, n, r));
    expect_svd_of_product(gaussian(m, r, 1), gaussian(n, r, 2), 0.5, r);
  }
}

TEST(ProductSvd, OfMoreColumnsThanRows) {
  expect_svd_of_product(gaussian(5, 9, 1), gaussian(30, 9, 2), 2, 5);
  expect_svd_of_product(gaussian(30, 9, 1), gaussian(5, 9, 2), 2, 5);
  expect_svd_of_product(gaussian(5, 20, 1), gaussian(6, 20, 2), 2, 5);
  expect_svd_of_product(gaussian(1, 8, 1), gaussian(1, 8, 2), 1, 1);
}

TEST(ProductSvd, OfFactorsThatLackRank) {
  Small b = gaussian(40, 6, 1);
  const Small a = gaussian(30, 6, 2);
  b.col(3) = 2 * b.col(0) - b.col(1);
  expect_svd_of_product(b, a, 1, 5);
  b.col(5).setZero();
  expect_svd_of_product(b, a, 1, 4);
  Small twice = gaussian(30, 6, 2);
  twice.rightCols(3) = twice.leftCols(3);
  expect_svd_of_product(gaussian(40, 6, 3), twice, 1, 3);
}

TEST(ProductSvd, OfNothing) {
  expect_svd_of_product(Small::Zero(12, 3), gaussian(9, 3, 1), 1, 0);
  expect_svd_of_product(gaussian(12, 3, 1), gaussian(9, 3, 2), 0, 0);
}

TEST(ProductSvd, OfAKnownSpectrum) {
  const Planted known = planted(50, 35, {1e3, 1, 1e-3, 1e-6});
  const ProductSvd svd = product_svd(known.u * known.sigma.asDiagonal(), known.v, -2);
  ASSERT_EQ(svd.factors.sigma.size(), 4U);
  for (Index i = 0; i < 4; ++i) {
    EXPECT_NEAR(svd.factors.sigma[static_cast<std::size_t>(i)], 2 * known.sigma[i], 1e-12);
    // B A^T is turned over by its sign: u v^T is minus the planted one.
    EXPECT_NEAR(svd.factors.u.col(i).dot(known.u.col(i)) * svd.factors.v.col(i).dot(known.v.col(i)), -1,
                1e-6);
  }
}

TEST(ProductSvd, OfEqualValues) {
  const Planted known = planted(40, 30, {3, 3, 3, 1});
  expect_svd_of_product(known.u * known.sigma.asDiagonal(), known.v, 1, 4);
}

}  // namespace
}  // namespace lox
