// SPDX-License-Identifier: MIT
#include "lox/linalg/delta.hpp"

#include "lox/base/random.hpp"
#include "lox/linalg/extrapolate.hpp"
#include "lox/linalg/libraries.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace lox {
namespace {

std::vector<std::byte> weights(DType dtype, std::size_t count, double deviation, std::uint64_t key) {
  std::vector<double> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = deviation * static_cast<double>(normal_at(key, i));
  std::vector<std::byte> bytes(count * element_bytes(dtype));
  from_double(dtype, values.data(), count, bytes.data());
  return bytes;
}

double value_at(DType dtype, const std::vector<std::byte>& bytes, std::size_t i) {
  double value = 0;
  to_double(dtype, bytes.data() + i * element_bytes(dtype), 1, &value);
  return value;
}

TEST(Subtract, IsTheDifferenceAndItsNorms) {
  constexpr std::size_t count = 100003;
  for (const DType aligned : {DType::BF16, DType::F16, DType::F32, DType::F64}) {
    for (const DType base : {DType::BF16, DType::F32, DType::F64}) {
      const auto a = weights(aligned, count, 0.02, 1);
      const auto b = weights(base, count, 0.02, 2);
      std::vector<float> delta(count);
      const DeltaSummary found = subtract(aligned, a.data(), base, b.data(), delta);
      double squares = 0;
      double largest = 0;
      for (std::size_t i = 0; i < count; ++i) {
        const double d = value_at(aligned, a, i) - value_at(base, b, i);
        ASSERT_EQ(delta[i], static_cast<float>(d));
        squares += d * d;
        largest = std::max(largest, std::abs(d));
      }
      EXPECT_NEAR(found.norm_squared, squares, 1e-6 * squares);
      EXPECT_EQ(found.largest, static_cast<float>(largest));
      EXPECT_TRUE(found.finite);
    }
  }
}

TEST(Subtract, SameBitsForAnyNumberOfThreads) {
  constexpr std::size_t count = 400001;
  const auto a = weights(DType::BF16, count, 0.02, 1);
  const auto b = weights(DType::BF16, count, 0.02, 2);
  std::vector<float> delta(count);
  set_threads_here(1);
  const double one = subtract(DType::BF16, a.data(), DType::BF16, b.data(), delta).norm_squared;
  set_threads_here(3);
  EXPECT_EQ(subtract(DType::BF16, a.data(), DType::BF16, b.data(), delta).norm_squared, one);
  set_threads_here(1);
}

TEST(Subtract, NoticesWhatIsNotFinite) {
  for (const DType dtype : {DType::BF16, DType::F16, DType::F32, DType::F64}) {
    for (const double bad :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      auto a = weights(dtype, 5000, 1, 1);
      const auto b = weights(dtype, 5000, 1, 2);
      const std::size_t width = element_bytes(dtype);
      from_double(dtype, &bad, 1, a.data() + 4321 * width);
      std::vector<float> delta(5000);
      EXPECT_FALSE(subtract(dtype, a.data(), dtype, b.data(), delta).finite);
      EXPECT_EQ(find_non_finite(dtype, a.data(), 5000), 4321U);
      EXPECT_FALSE(find_non_finite(dtype, b.data(), 5000));
    }
  }
}

TEST(Rescale, IsExactAndOnlyForExtremes) {
  for (const int exponent : {-140, -100, -41, -40, 0, 40, 41, 120}) {
    std::vector<float> values{std::ldexp(1.25F, exponent), std::ldexp(-1.0F, exponent)};
    const std::vector<float> before = values;
    const double scale = rescale(values, values[0]);
    EXPECT_EQ(scale == 1, std::abs(exponent) <= 40) << exponent;
    for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i] * scale, before[i]) << exponent;
  }
}

TEST(Extrapolate, AddsTheProductWithOneRounding) {
  constexpr Index m = 70;
  constexpr Index n = 333;
  constexpr Index k = 4;
  const double coef = 1.25;
  Small u(m, k);
  Small v(n, k);
  for (Index i = 0; i < u.size(); ++i) u.data()[i] = 0.1 * gaussian_at(1, static_cast<std::uint64_t>(i));
  for (Index i = 0; i < v.size(); ++i) v.data()[i] = 0.1 * gaussian_at(2, static_cast<std::uint64_t>(i));
  const std::vector<double> sigma{0.9, 0.5, 0.3, 0.1};
  for (const DType dtype : {DType::BF16, DType::F16, DType::F32, DType::F64}) {
    const auto before = weights(dtype, m * n, 0.02, 3);
    auto after = before;
    const EditSummary found = extrapolate(dtype, after, u, sigma, v, coef);
    double squares = 0;
    double dot = 0;
    std::int64_t changed = 0;
    for (Index i = 0; i < m; ++i) {
      for (Index j = 0; j < n; ++j) {
        double edit = 0;
        for (Index r = 0; r < k; ++r) {
          edit += coef * u(i, r) * sigma[static_cast<std::size_t>(r)] * v(j, r);
        }
        const auto at = static_cast<std::size_t>(i * n + j);
        const double was = value_at(dtype, before, at);
        const double is = value_at(dtype, after, at);
        ASSERT_NEAR(is, was + edit,
                    0.5001 * ulp(dtype, was + edit) + (dtype_bits(dtype) > 16 ? 4e-17 : 1e-8));
        squares += edit * edit;
        dot += edit * (is - was);
        changed += is != was ? 1 : 0;
      }
    }
    EXPECT_NEAR(found.edit_squared, squares, 1e-5 * squares);
    EXPECT_NEAR(found.realised_dot, dot, 1e-4 * squares);
    EXPECT_NEAR(static_cast<double>(found.changed), static_cast<double>(changed), 0);
    EXPECT_TRUE(found.finite);
  }
}

TEST(Extrapolate, NoticesOverflow) {
  std::vector<std::byte> values(2 * 2);
  const std::vector<double> start{60000, 1};
  from_double(DType::F16, start.data(), 2, values.data());
  const std::vector<float> delta{6000, 1};
  EXPECT_FALSE(extrapolate_full(DType::F16, values, delta, 1).finite);
}

}  // namespace
}  // namespace lox
