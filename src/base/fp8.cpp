// SPDX-License-Identifier: MIT
#include "lox/base/fp8.hpp"

#include "lox/base/simd.hpp"

#include <cstdint>

namespace lox {
namespace {

LOX_SIMD void scale_run(const std::byte* codes, std::size_t count, float scale, float* __restrict__ to) {
  for (std::size_t i = 0; i < count; ++i) {
    const auto code = static_cast<std::uint32_t>(codes[i]);
    const std::uint32_t bits = ((code & 0x7F) << 20) + (120U << 23);
    const float normal = __builtin_bit_cast(float, bits);
    // A subnormal as a number of the next binade, whose first one is taken away. (A product that mends the
    // exponent would do, too, but processors take a hundred times as long over subnormal floats.)
    const float subnormal = __builtin_bit_cast(float, bits + (1U << 23)) - 0x1p-6F;
    const float value = (code & 0x78) == 0 ? subnormal : normal;
    const std::uint32_t sign = (code & 0x80) << 24;
    to[i] = __builtin_bit_cast(float, __builtin_bit_cast(std::uint32_t, value) | sign) * scale;
  }
}

LOX_SIMD void code_run(const float* values, std::size_t count, float scale, std::byte* __restrict__ to) {
  constexpr float largest = static_cast<float>(largest_e4m3);
  for (std::size_t i = 0; i < count; ++i) {
    const float quotient = values[i] / scale;
    const std::uint32_t sign = (__builtin_bit_cast(std::uint32_t, quotient) >> 24) & 0x80;
    const float absolute = quotient < 0 ? -quotient : quotient;
    const float size = absolute > largest ? largest : absolute;
    const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, size);
    const std::uint32_t normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - (120U << 3);
    // Beside 2^14 a float has the spacing of subnormal codes, 2^-9: the sum is rounded to them.
    const std::uint32_t subnormal = __builtin_bit_cast(std::uint32_t, size + 0x1p14F) & 0xFF;
    to[i] = static_cast<std::byte>(sign | (size < 0x1p-6F ? subnormal : normal));
  }
}

LOX_SIMD std::uint8_t largest_size(const std::byte* codes, std::size_t count) {
  std::uint8_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto size = static_cast<std::uint8_t>(codes[i] & std::byte{0x7F});
    largest = size > largest ? size : largest;
  }
  return largest;
}

/// In units of 2^-18, the square of the least spacing.
LOX_SIMD std::uint64_t squared_spacings(const std::byte* codes, std::size_t count) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t exponent = (static_cast<std::uint32_t>(codes[i]) >> 3) & 15;
    sum += std::uint32_t{1} << (2 * (exponent > 0 ? exponent - 1 : 0));
  }
  return sum;
}

}  // namespace

CodeSummary scale_e4m3(const std::byte* codes, std::size_t count, float scale, float* to) {
  scale_run(codes, count, scale, to);
  return {static_cast<double>(squared_spacings(codes, count)) * 0x1p-18, largest_size(codes, count) == 0x7F};
}

void to_e4m3(const float* values, std::size_t count, float scale, std::byte* to) {
  code_run(values, count, scale, to);
}

}  // namespace lox
