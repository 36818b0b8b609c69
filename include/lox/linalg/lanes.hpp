// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/half.hpp"
#include "lox/base/simd.hpp"

#include <cstddef>
#include <cstdint>

namespace lox {

/// Entries that the loops over weights take at once, whatever the width of the processor's registers: sums
/// kept lane by lane have the same bits on all of them.
inline constexpr std::size_t lanes = 16;
using Floats = float __attribute__((vector_size(4 * lanes)));
using Words = std::uint32_t __attribute__((vector_size(4 * lanes)));
using Counts = std::int32_t __attribute__((vector_size(4 * lanes)));
using Doubles = double __attribute__((vector_size(4 * lanes)));  // as many as one register holds

/// As double, exactly.
LOX_INLINE inline void widen_halves(const Floats& values, Doubles& low, Doubles& high) {
  using Both = double __attribute__((vector_size(8 * lanes)));
  const Both wide = __builtin_convertvector(values, Both);
  low = __builtin_shufflevector(wide, wide, 0, 1, 2, 3, 4, 5, 6, 7);
  high = __builtin_shufflevector(wide, wide, 8, 9, 10, 11, 12, 13, 14, 15);
}

/// Lane l of a sum kept in two halves.
inline double lane(const Doubles (&halves)[2], std::size_t l) {
  return halves[l / (lanes / 2)][l % (lanes / 2)];
}

/// How `lanes` entries of a dtype are read and written.
template <void (*widen)(const Words&, Floats&), void (*narrow)(const Floats&, Words&)>
struct Half {
  using Bits = std::uint16_t __attribute__((vector_size(2 * lanes)));
  LOX_INLINE static void load(const std::byte* from, Floats& values) {
    Bits bits;
    __builtin_memcpy(&bits, from, sizeof(bits));
    widen(__builtin_convertvector(bits, Words), values);
  }
  /// `values` become what was stored.
  LOX_INLINE static void store(std::byte* to, Floats& values) {
    Words words;
    narrow(values, words);
    const Bits bits = __builtin_convertvector(words, Bits);
    __builtin_memcpy(to, &bits, sizeof(bits));
    widen(words, values);
  }
};
using Bf16 = Half<widen_bf16<Words, Floats>, narrow_bf16<Words, Floats>>;
using F16 = Half<widen_f16<Words, Floats>, narrow_f16<Words, Floats>>;
struct F32 {
  using Bits = Floats;
  LOX_INLINE static void load(const std::byte* from, Floats& values) {
    __builtin_memcpy(&values, from, sizeof(values));
  }
  LOX_INLINE static void store(std::byte* to, const Floats& values) {
    __builtin_memcpy(to, &values, sizeof(values));
  }
};

}  // namespace lox
