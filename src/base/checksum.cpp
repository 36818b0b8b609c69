// SPDX-License-Identifier: MIT
#include "lox/base/checksum.hpp"

#include <algorithm>

#include <xxhash.h>

namespace lox {

#if defined(__x86_64__) && defined(__GNUC__)
XXH64_hash_t xxh3_64_avx2(const void* bytes, size_t size);  // checksum_avx2.cpp
XXH128_hash_t xxh3_128_avx2(const void* bytes, size_t size, XXH64_hash_t seed);
#endif

namespace {

XXH64_hash_t hash64(const void* bytes, std::size_t size) {
#if defined(__x86_64__) && defined(__GNUC__)
  if (__builtin_cpu_supports("avx2")) return xxh3_64_avx2(bytes, size);
#endif
  return XXH3_64bits(bytes, size);
}

XXH128_hash_t hash128(const void* bytes, std::size_t size, std::uint64_t seed) {
#if defined(__x86_64__) && defined(__GNUC__)
  if (__builtin_cpu_supports("avx2")) return xxh3_128_avx2(bytes, size, seed);
#endif
  return XXH3_128bits_withSeed(bytes, size, seed);
}

}  // namespace

std::uint64_t checksum(std::span<const std::byte> bytes) {
  return hash64(bytes.data(), bytes.size());
}

void Content::add(std::span<const std::byte> bytes, std::size_t width, std::size_t cols,
                  std::uint64_t first) {
  const std::uint64_t segments = (cols + segment - 1) / segment;  // of a row
  for (std::uint64_t at = first, left = bytes.size() / width; left > 0;) {
    const std::uint64_t column = at % cols;
    const std::uint64_t count = std::min({std::uint64_t{segment}, cols - column, left});
    const XXH128_hash_t hash =
        hash128(bytes.data() + (at - first) * width, count * width, at / cols * segments + column / segment);
    sums[0] += hash.low64;
    sums[1] += hash.high64;
    at += count;
    left -= count;
  }
}

void Content::add(const Content& other) {
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += other.sums[i];
}

}  // namespace lox
