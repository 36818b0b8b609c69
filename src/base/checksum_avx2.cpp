// SPDX-License-Identifier: MIT
// XXH3 with AVX2, more than twice as fast as the library, which a distribution builds for any processor.
// Includes no other header: an inline function of another header, compiled here, might be taken elsewhere.
#if defined(__AVX2__)  // the build compiles this file for it on x86-64
#define XXH_INLINE_ALL
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
