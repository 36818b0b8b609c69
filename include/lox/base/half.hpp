// SPDX-License-Identifier: MIT
#pragma once
#include <bit>
#include <cstdint>

namespace lox {

/// Scalar conversions between float and 16-bit floats, written without branches on the common path so that a
/// compiler vectorises loops over them. To nearest, ties to even.

inline float bf16_to_float(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

inline std::uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = bits + 0x7FFF + ((bits >> 16) & 1);
  const bool is_nan = (bits & 0x7FFFFFFF) > 0x7F800000;
  return static_cast<std::uint16_t>((is_nan ? bits | 0x400000 : rounded) >> 16);
}

inline float f16_to_float(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000U} << 16;
  const std::uint32_t magnitude = bits & 0x7FFFU;
  // Shifted into place the exponent is 112 too small; a product with 2^112 mends it, subnormals included.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112F;
  const std::uint32_t special = (magnitude << 13) + 0x70000000U;  // infinity and NaN keep their payload
  const std::uint32_t result = magnitude >= 0x7C00 ? special : std::bit_cast<std::uint32_t>(scaled);
  return std::bit_cast<float>(sign | result);
}

inline std::uint16_t float_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000;
  const std::uint32_t magnitude = bits & 0x7FFFFFFF;
  // Normal range: rebias, then round at bit 13.
  const std::uint32_t normal = (magnitude - 0x38000000U + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
  // Below 2^-14: adding 0.5 lets the float adder do the rounding at the subnormal's last place (2^-24).
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3F000000U;
  std::uint32_t result = magnitude < 0x38800000 ? subnormal : normal;
  result = magnitude >= 0x477FF000 ? 0x7C00 : result;  // rounds to 65536 or more: infinity
  result = magnitude > 0x7F800000 ? 0x7E00 : result;   // NaN
  return static_cast<std::uint16_t>(sign | result);
}

}  // namespace lox
