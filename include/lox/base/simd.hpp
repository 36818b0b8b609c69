// SPDX-License-Identifier: MIT
#pragma once

/// Put before a function whose loops should be compiled for several x86-64 levels; the loader picks one.
/// All clones round alike: no clone is allowed to fuse what the others do not (-ffp-contract=off there).
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(LOX_NO_TARGET_CLONES)
#define LOX_SIMD __attribute__((target_clones("default", "arch=haswell", "arch=skylake-avx512")))
#else
#define LOX_SIMD
#endif
