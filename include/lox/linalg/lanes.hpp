// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/half.hpp"
#include "lox/base/simd.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace lox {

/// Entries that the loops over weights take at once, whatever the width of the processor's registers: sums
/// kept lane by lane have the same bits on all of them.
inline constexpr std::size_t lanes = 16;

/// Vectors of N entries, where N floats fill a register. gcc keeps what is wider in memory, entry by entry.
template <std::size_t N>
struct Vectors {
  typedef float Floats __attribute__((vector_size(4 * N)));
  typedef std::uint32_t Words __attribute__((vector_size(4 * N)));
  typedef std::int32_t Counts __attribute__((vector_size(4 * N)));
  typedef double Doubles __attribute__((vector_size(4 * N)));  // half as many
  typedef double Wide __attribute__((vector_size(8 * N)));
  typedef std::uint16_t Bits __attribute__((vector_size(2 * N)));
  static constexpr std::size_t parts = lanes / N;
};
template <std::size_t N>
using Floats = typename Vectors<N>::Floats;
template <std::size_t N>
using Words = typename Vectors<N>::Words;

template <std::size_t N, std::size_t... I>
LOX_INLINE inline void split(const typename Vectors<N>::Wide& wide, typename Vectors<N>::Doubles& low,
                             typename Vectors<N>::Doubles& high, std::index_sequence<I...> /*entries*/) {
  low = __builtin_shufflevector(wide, wide, I...);
  high = __builtin_shufflevector(wide, wide, (N / 2 + I)...);
}

/// As double, exactly.
template <std::size_t N>
LOX_INLINE inline void widen_halves(const Floats<N>& values, typename Vectors<N>::Doubles& low,
                                    typename Vectors<N>::Doubles& high) {
  split<N>(__builtin_convertvector(values, typename Vectors<N>::Wide), low, high,
           std::make_index_sequence<N / 2>());
}

/// How N entries of a dtype are read and written.
template <std::size_t N, void (*widen)(const Words<N>&, Floats<N>&),
          void (*narrow)(const Floats<N>&, Words<N>&)>
struct Half {
  static constexpr std::size_t width = 2;
  LOX_INLINE static void load(const std::byte* from, Floats<N>& values) {
    typename Vectors<N>::Bits bits;
    __builtin_memcpy(&bits, from, sizeof(bits));
    widen(__builtin_convertvector(bits, Words<N>), values);
  }
  /// `values` become what was stored.
  LOX_INLINE static void store(std::byte* to, Floats<N>& values) {
    Words<N> words;
    narrow(values, words);
    const auto bits = __builtin_convertvector(words, typename Vectors<N>::Bits);
    __builtin_memcpy(to, &bits, sizeof(bits));
    widen(words, values);
  }
};
template <std::size_t N>
using Bf16 = Half<N, widen_bf16<Words<N>, Floats<N>>, narrow_bf16<Words<N>, Floats<N>>>;
template <std::size_t N>
using F16 = Half<N, widen_f16<Words<N>, Floats<N>>, narrow_f16<Words<N>, Floats<N>>>;
template <std::size_t N>
struct F32 {
  static constexpr std::size_t width = 4;
  LOX_INLINE static void load(const std::byte* from, Floats<N>& values) {
    __builtin_memcpy(&values, from, sizeof(values));
  }
  LOX_INLINE static void store(std::byte* to, const Floats<N>& values) {
    __builtin_memcpy(to, &values, sizeof(values));
  }
};

#ifdef LOX_HAS_TARGETS
template <class Loop, class... Arguments>
__attribute__((target("avx512f"))) auto run_with_avx512f(Arguments&... arguments) {
  return Loop::template run<16>(arguments...);
}
template <class Loop, class... Arguments>
__attribute__((target("avx2"))) auto run_with_avx2(Arguments&... arguments) {
  return Loop::template run<8>(arguments...);
}
#endif

/// Loop::run<N>(arguments), which is to be LOX_INLINE, with the N of the processor at hand.
template <class Loop, class... Arguments>
auto run_loop(Arguments&&... arguments) {
#ifdef LOX_HAS_TARGETS
  if (__builtin_cpu_supports("avx512f")) return run_with_avx512f<Loop>(arguments...);
  if (__builtin_cpu_supports("avx2")) return run_with_avx2<Loop>(arguments...);
#endif
  return Loop::template run<4>(arguments...);
}

}  // namespace lox
