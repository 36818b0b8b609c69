// SPDX-License-Identifier: MIT
#include "lox/base/random.hpp"

#include <cmath>

#include <gtest/gtest.h>

namespace lox {
namespace {

TEST(Random, QuantilesAreThoseOfTheNormalDistribution) {
  for (double u = 1e-15; u < 0.5; u *= 1.01) {
    for (const double at : {u, 1 - u}) {
      const double x = normal_quantile(at);
      // Probability of the nearer tail, which is known to all digits.
      const double tail = at < 0.5 ? at : 1 - at;
      EXPECT_NEAR(std::erfc(std::abs(x) / std::sqrt(2.0)) / 2 / tail, 1, 2e-5) << at;
      EXPECT_EQ(x < 0, at < 0.5);
    }
  }
  EXPECT_EQ(normal_quantile(0.5), 0);
}

TEST(Random, NumbersHaveTheMomentsOfNormalOnes) {
  constexpr int count = 1 << 20;
  double sums[5] = {};
  int beyond_four = 0;
  for (int i = 0; i < count; ++i) {
    const double x = gaussian_at(7, static_cast<std::uint64_t>(i));
    for (int power = 1; power <= 4; ++power) sums[power] += std::pow(x, power);
    if (std::abs(x) > 4) ++beyond_four;
  }
  EXPECT_NEAR(sums[1] / count, 0, 4e-3);
  EXPECT_NEAR(sums[2] / count, 1, 6e-3);
  EXPECT_NEAR(sums[3] / count, 0, 2e-2);
  EXPECT_NEAR(sums[4] / count, 3, 5e-2);
  EXPECT_NEAR(beyond_four, 6.3e-5 * count, 35);
}

}  // namespace
}  // namespace lox
