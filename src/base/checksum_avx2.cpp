// SPDX-License-Identifier: MIT
// XXH3 with AVX2, more than twice as fast as the library, which a distribution builds for any processor.
// Includes no other header: an inline function of another header, compiled here, might be taken elsewhere.
#if defined(__x86_64__) && defined(__GNUC__)
#pragma GCC target("avx2")
#include <immintrin.h>
#define XXH_INLINE_ALL
#define XXH_VECTOR XXH_AVX2
#include <xxhash.h>

namespace lox {

XXH64_hash_t xxh3_64_avx2(const void* bytes, size_t size) {
  return XXH3_64bits(bytes, size);
}
XXH128_hash_t xxh3_128_avx2(const void* bytes, size_t size, XXH64_hash_t seed) {
  return XXH3_128bits_withSeed(bytes, size, seed);
}

}  // namespace lox
#endif
