// SPDX-License-Identifier: MIT
#include "lox/base/fp8.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

namespace lox {
namespace {

/// The value of a code from its fields, by definition.
float by_definition(unsigned code) {
  const int exponent = static_cast<int>(code >> 3 & 15);
  const double mantissa = (code & 7) / 8.0 + (exponent > 0 ? 1 : 0);
  const double size = std::ldexp(mantissa, std::max(exponent, 1) - 7);
  return static_cast<float>((code & 0x80) != 0 ? -size : size);
}

std::array<std::byte, 256> all_codes() {
  std::array<std::byte, 256> codes;
  for (unsigned code = 0; code < codes.size(); ++code) codes[code] = static_cast<std::byte>(code);
  return codes;
}

TEST(Fp8, EveryCodeTimesAScaleIsRoundedOnce) {
  const auto codes = all_codes();
  for (const float scale : {1.0F, 0x1.234568p-13F, 3.7e30F, 0x1p-120F, 1.5e-44F, 0.0F}) {
    std::array<float, 256> values;
    scale_e4m3(codes.data(), codes.size(), scale, values.data());
    for (unsigned code = 0; code < codes.size(); ++code) {
      if ((code & 0x7F) == 0x7F) continue;
      const float expected = by_definition(code) * scale;
      EXPECT_EQ(std::bit_cast<std::uint32_t>(values[code]), std::bit_cast<std::uint32_t>(expected))
          << code << " " << scale;
    }
  }
}

TEST(Fp8, SpacingsAreDistancesToTheNextCode) {
  for (unsigned code = 0; code < 0x7E; ++code) {  // above the last one the distance is that below
    const double distance =
        static_cast<double>(by_definition(code + 1)) - static_cast<double>(by_definition(code));
    for (const unsigned signed_code : {code, code | 0x80U}) {
      const auto byte = static_cast<std::byte>(signed_code);
      float value = 0;
      const CodeSummary found = scale_e4m3(&byte, 1, 3.0F, &value);
      EXPECT_EQ(std::sqrt(found.squared_spacings), distance) << code;
      EXPECT_FALSE(found.has_nan);
    }
  }
  EXPECT_EQ(by_definition(0x7E), largest_e4m3);
}

TEST(Fp8, OneNanAmongManyIsSeen) {
  for (const unsigned nan : {0x7FU, 0xFFU}) {
    for (std::size_t at = 0; at < 70; ++at) {
      std::vector<std::byte> codes(70);
      codes[at] = static_cast<std::byte>(nan);
      std::vector<float> values(codes.size());
      EXPECT_TRUE(scale_e4m3(codes.data(), codes.size(), 1, values.data()).has_nan);
    }
  }
}

TEST(Fp8, EveryQuotientGetsItsNearestCodeAndOfTwoTheEvenOne) {
  std::vector<float> values;
  for (unsigned code = 0; code < 0x7E; ++code) {
    const double low = by_definition(code);
    const double middle = (low + by_definition(code + 1)) / 2;
    for (const double value :
         {low, middle, std::nextafter(middle, 0.0), std::nextafter(middle, 1e9), low * 0.7 + middle * 0.3})
      values.push_back(static_cast<float>(value));
  }
  for (const float more : {1e-30F, 448.0F, 463.9F, 1e9F}) values.push_back(more);
  const auto nearest = [](float value) {
    unsigned best = 0;
    for (unsigned code = 1; code < 0x7F; ++code) {
      const double here = std::abs(static_cast<double>(by_definition(code)) - static_cast<double>(value));
      const double there = std::abs(static_cast<double>(by_definition(best)) - static_cast<double>(value));
      if (here < there || (here == there && code % 2 == 0)) best = code;
    }
    return best;
  };
  for (const float scale : {1.0F, 0.0123F}) {
    for (const float sign : {1.0F, -1.0F}) {
      std::vector<float> scaled(values.size());
      std::vector<std::byte> codes(values.size());
      std::ranges::transform(values, scaled.begin(), [&](float value) { return sign * value * scale; });
      to_e4m3(scaled.data(), scaled.size(), scale, codes.data());
      for (std::size_t i = 0; i < values.size(); ++i) {
        const unsigned expected = nearest(std::abs(scaled[i] / scale)) | (sign < 0 ? 0x80U : 0U);
        EXPECT_EQ(static_cast<unsigned>(codes[i]), expected) << scaled[i] << " / " << scale;
      }
    }
  }
}

}  // namespace
}  // namespace lox
