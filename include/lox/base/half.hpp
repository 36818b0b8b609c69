// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/simd.hpp"

#include <cstdint>

namespace lox {

/// Conversions between float and 16-bit floats (in the low half of 32 bits), to nearest, ties to even;
/// without branches, for scalars and for vectors of the compiler alike. Word is std::uint32_t or a vector of
/// them, Float likewise.

template <class Word, class Float>
LOX_INLINE inline void widen_bf16(const Word& bits, Float& value) {
  value = __builtin_bit_cast(Float, bits << 16);
}

template <class Word, class Float>
LOX_INLINE inline void narrow_bf16(const Float& value, Word& to) {
  const Word bits = __builtin_bit_cast(Word, value);
  const Word rounded = bits + 0x7FFF + ((bits >> 16) & 1);
  to = ((bits & 0x7FFFFFFF) > 0x7F800000 ? bits | 0x400000 : rounded) >> 16;  // NaN stays NaN
}

template <class Word, class Float>
LOX_INLINE inline void widen_f16(const Word& bits, Float& value) {
  const Word sign = (bits & 0x8000) << 16;
  const Word magnitude = (bits & 0x7FFF) << 13;
  // Shifted into place the exponent is 112 too small; a product with 2^112 mends it, subnormals included.
  const Float scaled = __builtin_bit_cast(Float, magnitude) * 0x1p112F;
  const Word special = magnitude + 0x70000000;  // infinity and NaN keep their payload
  const Word normal = __builtin_bit_cast(Word, scaled);
  value = __builtin_bit_cast(Float, sign | (magnitude >= (0x7C00 << 13) ? special : normal));
}

template <class Word, class Float>
LOX_INLINE inline void narrow_f16(const Float& value, Word& to) {
  const Word bits = __builtin_bit_cast(Word, value);
  const Word sign = (bits >> 16) & 0x8000;
  const Word magnitude = bits & 0x7FFFFFFF;
  // Normal range: rebias, then round at bit 13.
  const Word normal = (magnitude - 0x38000000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
  // Below 2^-14: adding 0.5 lets the float adder do the rounding at the subnormal's last place (2^-24).
  const Float shifted = __builtin_bit_cast(Float, magnitude) + 0.5F;
  const Word subnormal = __builtin_bit_cast(Word, shifted) - 0x3F000000;
  const Word infinity = Word{} + 0x7C00;
  const Word nan = Word{} + 0x7E00;
  const Word finite = magnitude < 0x38800000 ? subnormal : normal;
  const Word bounded = magnitude >= 0x477FF000 ? infinity : finite;  // rounds to 65536 or more
  to = sign | (magnitude > 0x7F800000 ? nan : bounded);
}

inline float bf16_to_float(std::uint16_t bits) {
  float value = 0;
  widen_bf16(std::uint32_t{bits}, value);
  return value;
}
inline std::uint16_t float_to_bf16(float value) {
  std::uint32_t bits = 0;
  narrow_bf16(value, bits);
  return static_cast<std::uint16_t>(bits);
}
inline float f16_to_float(std::uint16_t bits) {
  float value = 0;
  widen_f16(std::uint32_t{bits}, value);
  return value;
}
inline std::uint16_t float_to_f16(float value) {
  std::uint32_t bits = 0;
  narrow_f16(value, bits);
  return static_cast<std::uint16_t>(bits);
}

}  // namespace lox
