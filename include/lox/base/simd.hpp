// SPDX-License-Identifier: MIT
#pragma once

/// Put before a function whose loops should be compiled for several x86-64 levels; the loader picks one.
/// All clones round alike: no clone is allowed to fuse what the others do not (-ffp-contract=off there).
/// Named by instructions: a clone for "arch=..." serves that very make of processor only.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(LOX_NO_TARGET_CLONES)
#define LOX_HAS_TARGETS 1
#define LOX_SIMD __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define LOX_SIMD
#endif

/// For what a LOX_SIMD function calls in its loops: gcc inlines into its clones only what it must.
#if defined(__GNUC__)
#define LOX_INLINE __attribute__((always_inline))
#else
#define LOX_INLINE
#endif
