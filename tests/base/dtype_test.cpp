// SPDX-License-Identifier: MIT
#include "lox/base/dtype.hpp"

#include "lox/base/half.hpp"
#include "lox/base/random.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "support/expect_error.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

TEST(DType, NamesGoThereAndBack) {
  for (int i = 0; i <= static_cast<int>(DType::BOOL); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(dtype_from_name(dtype_name(dtype)), dtype);
  }
  EXPECT_EQ(dtype_name(DType::BF16), "BF16");
  EXPECT_EQ(dtype_bits(DType::F4), 4);
  EXPECT_FALSE(dtype_from_name("BF17"));
}

TEST(DType, BytesOfAnElement) {
  EXPECT_EQ(element_bytes(DType::F64), 8U);
  EXPECT_EQ(element_bytes(DType::BF16), 2U);
  EXPECT_EQ(element_bytes(DType::BOOL), 1U);
  for (const DType packed : {DType::F4, DType::F6_E3M2, DType::F6_E2M3}) {
    testing::expect_error(ExitCode::internal, [&] { element_bytes(packed); }, {dtype_name(packed)});
  }
}

/// The value of a 16-bit float from its fields, by definition.
double by_definition(std::uint16_t bits, int mantissa_bits, int bias) {
  const int exponent_bits = 15 - mantissa_bits;
  const int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

TEST(DType, AllSixteenBitPatternsWidenAndComeBack) {
  for (std::uint32_t i = 0; i < 0x10000; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const double bf16 = by_definition(bits, 7, 127);
    const double f16 = by_definition(bits, 10, 15);
    if (std::isnan(bf16)) {
      EXPECT_TRUE(std::isnan(bf16_to_float(bits)));
    } else {
      EXPECT_EQ(bf16_to_float(bits), bf16);
      EXPECT_EQ(float_to_bf16(bf16_to_float(bits)), bits);
    }
    if (std::isnan(f16)) {
      EXPECT_TRUE(std::isnan(f16_to_float(bits)));
    } else {
      EXPECT_EQ(f16_to_float(bits), f16);
      EXPECT_EQ(float_to_f16(f16_to_float(bits)), bits);
    }
  }
}

/// Nearest of the two neighbours, ties to the even pattern, found by comparing distances in double.
template <class Widen, class Narrow>
void expect_nearest_even(float value, Widen widen, Narrow narrow, std::uint16_t infinity) {
  const std::uint16_t got = narrow(value);
  const auto magnitude = static_cast<std::uint16_t>(got & 0x7FFF);
  if (magnitude >= infinity) return;
  const double distance = std::abs(std::abs(static_cast<double>(value)) - widen(magnitude));
  for (const int step : {-1, 1}) {
    const int neighbour = magnitude + step;
    if (neighbour < 0 || neighbour >= infinity) continue;
    const double other =
        std::abs(std::abs(static_cast<double>(value)) - widen(static_cast<std::uint16_t>(neighbour)));
    EXPECT_TRUE(distance < other || (distance == other && magnitude % 2 == 0)) << value;
  }
}

TEST(DType, RoundsToNearestTiesToEven) {
  for (std::uint32_t i = 0; i < 400000; ++i) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(mix64(i)));
    if (!std::isfinite(value)) continue;
    expect_nearest_even(value, bf16_to_float, float_to_bf16, 0x7F80);
    expect_nearest_even(value, f16_to_float, float_to_f16, 0x7C00);
    // Numbers in the range of F16, subnormals among them, and exact ties.
    const float small = std::ldexp(value > 0 ? 1.0F + static_cast<float>(i % 4096) / 2048 : 1.0F,
                                   -26 + static_cast<int>(i % 40));
    expect_nearest_even(small, f16_to_float, float_to_f16, 0x7C00);
    expect_nearest_even(small, bf16_to_float, float_to_bf16, 0x7F80);
  }
  EXPECT_EQ(float_to_f16(65519.0F), 0x7BFF);
  EXPECT_EQ(float_to_f16(65520.0F), 0x7C00);
  EXPECT_EQ(float_to_bf16(1.00390625F), 0x3F80);  // a tie
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7F80);
}

TEST(DType, ArraysAgreeWithScalars) {
  std::vector<float> values(1003);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = normal_at(7, i);
  std::vector<std::byte> bytes(values.size() * 8);
  std::vector<float> back(values.size());
  for (const DType dtype : {DType::BF16, DType::F16, DType::F32, DType::F64}) {
    from_float(dtype, values.data(), values.size(), bytes.data());
    to_float(dtype, bytes.data(), values.size(), back.data());
    std::vector<double> wide(values.size());
    to_double(dtype, bytes.data(), values.size(), wide.data());
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_NEAR(back[i], values[i], ulp(dtype, values[i]) / 2);
      EXPECT_EQ(wide[i], back[i]);
    }
  }
}

TEST(DType, UlpIsTheSpacing) {
  EXPECT_EQ(ulp(DType::BF16, 1.0), 0x1p-7);
  EXPECT_EQ(ulp(DType::BF16, -1.99), 0x1p-7);
  EXPECT_EQ(ulp(DType::F16, 2.0), 0x1p-9);
  EXPECT_EQ(ulp(DType::F16, 0.0), 0x1p-24);
  EXPECT_EQ(ulp(DType::F32, 1.0), 0x1p-23);
  EXPECT_EQ(ulp(DType::F64, 1.0), 0x1p-52);
}

}  // namespace
}  // namespace lox
