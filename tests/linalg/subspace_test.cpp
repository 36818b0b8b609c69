// SPDX-License-Identifier: MIT
#include "lox/linalg/subspace.hpp"

#include <cmath>

#include <Eigen/QR>
#include <gtest/gtest.h>

using namespace lox;

namespace {

/// Two planes of 9-dimensional space whose principal angles are these: e1 cos + e3 sin, e2 cos + e4 sin.
std::pair<Small, Small> planes(double first, double second) {
  Small u = Small::Zero(9, 2);
  Small v = Small::Zero(9, 2);
  u(0, 0) = u(1, 1) = 1;
  v(0, 0) = std::cos(first);
  v(2, 0) = std::sin(first);
  v(1, 1) = std::cos(second);
  v(3, 1) = std::sin(second);
  // In other coordinates, and by other bases of the same planes.
  const Small turn = Eigen::HouseholderQR<Small>(Small::Random(9, 9)).householderQ();
  Small mix(2, 2);
  mix << 0.6, -0.8, 0.8, 0.6;
  return {turn * u, turn * v * mix};
}

TEST(Subspace, AnglesOfPlanes) {
  for (const auto& [first, second] : {std::pair{0.3, 1.2}, {1e-9, 0.5}, {0.0, M_PI / 2}, {0.7, 0.9}}) {
    const auto [u, v] = planes(first, second);
    for (const auto& angles : {principal_angles(u, v, 2), principal_angles(v, u, 5)}) {
      ASSERT_EQ(angles.size(), 2U);
      EXPECT_NEAR(angles[0], first, 1e-14);
      EXPECT_NEAR(angles[1], second, 1e-14);
    }
    const double overlap = subspace_overlap(u.transpose() * v, 2);
    EXPECT_NEAR(overlap, (std::pow(std::cos(first), 2) + std::pow(std::cos(second), 2)) / 2, 1e-14);
  }
}

TEST(Subspace, OfOtherDimensions) {
  const auto [u, v] = planes(0.4, 0.8);
  const Small one = v * Eigen::Vector2d(0.6, 0.8);  // the first column of v before it was mixed
  const std::vector<double> angles = principal_angles(u, one, 2);
  ASSERT_EQ(angles.size(), 1U);
  EXPECT_NEAR(subspace_overlap(u.transpose() * one, 2), std::pow(std::cos(angles[0]), 2) / 2, 1e-14);
  EXPECT_NEAR(subspace_overlap(u.transpose() * u.leftCols(1), 2), 0.5, 1e-14);
  EXPECT_NEAR(subspace_overlap(u.transpose() * u.leftCols(1), 1), 1, 1e-14);
  EXPECT_TRUE(principal_angles(u, Small(9, 0), 2).empty());
}

/// The roundings of a store move an angle of nothing by no more than they are.
TEST(Subspace, EqualOnesThatWereRounded) {
  const Small q = Eigen::HouseholderQR<Small>(Small::Random(300, 8)).householderQ() * Small::Identity(300, 8);
  const Small rounded = q.cast<float>().cast<double>();
  for (const double angle : principal_angles(q, rounded, 8)) EXPECT_LT(angle, 3e-7);
}

TEST(Subspace, ShareOfAMatrix) {
  Small matrix(3, 2);
  matrix << 3, 0, 0, 4, 12, 0;
  const Small u = Small::Identity(3, 3);
  const Small image = matrix.transpose() * u;
  EXPECT_DOUBLE_EQ(subspace_share(image, 1, 13), 3.0 / 13);
  EXPECT_DOUBLE_EQ(subspace_share(image, 2, 13), 5.0 / 13);
  EXPECT_DOUBLE_EQ(subspace_share(image, 7, 13), 1);
  EXPECT_DOUBLE_EQ(subspace_share(image, 7, 13 - 1e-9), 1);  // never above
}

}  // namespace
