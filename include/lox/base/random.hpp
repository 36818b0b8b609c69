// SPDX-License-Identifier: MIT
#pragma once
#include <cstdint>
#include <string_view>

namespace lox {

/// Random numbers by counter: entry `index` of stream `key` is the same on every rank, in any order.

/// SplitMix64 finaliser (Steele, Lea, Flood 2014): a bijective mix of 64 bits.
constexpr std::uint64_t mix64(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

/// The key of a stream, from the job's seed and a name (a tensor's, say).
constexpr std::uint64_t stream_key(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return mix64(hash ^ mix64(seed));
}

/// 64 random bits.
constexpr std::uint64_t bits_at(std::uint64_t key, std::uint64_t index) {
  return mix64(key + index * 0xD1342543DE82EF95ULL);
}

/// The number below which a normal one lies with probability 0 < u < 1, to seven digits: Wichura 1988,
/// Algorithm AS 241, PPND7. Plain arithmetic, so the bits are the same everywhere.
double normal_quantile(double u);

/// A normal number, mean 0 and variance 1.
inline float gaussian_at(std::uint64_t key, std::uint64_t index) {
  return static_cast<float>(
      normal_quantile((static_cast<double>(bits_at(key, index) >> 11) + 0.5) * 0x1p-53));
}

/// An approximately normal number, mean 0 and variance 1: the sum of four 16-bit uniform ones, centred and
/// scaled. Tails end at +-3.46; no libm call, so the bits are the same everywhere.
constexpr float normal_at(std::uint64_t key, std::uint64_t index) {
  const std::uint64_t r = bits_at(key, index);
  const auto sum =
      static_cast<std::int32_t>((r & 0xFFFF) + ((r >> 16) & 0xFFFF) + ((r >> 32) & 0xFFFF) + (r >> 48));
  return static_cast<float>(sum - 131070) * 2.6429e-5F;  // 1 / sqrt(4 * 65536^2 / 12)
}

}  // namespace lox
