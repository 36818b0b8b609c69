// SPDX-License-Identifier: MIT
#include "lox/linalg/thin_product.hpp"

#include "lox/base/buffer.hpp"

#include <algorithm>
#include <omp.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define LOX_X86 1
#endif

namespace lox {
namespace {

constexpr Index padded = 16;       // panels are given this many columns at a time
constexpr Index tile_size = 2048;  // rows of a padded panel that stay in a second-level cache: 128 KiB
constexpr Index sum_length = 256;  // floats added up before the sum goes to its total: bounds rounding

#ifdef LOX_X86

#ifdef __clang__
#pragma clang fp contract(fast)
#define LOX_FUSED
#else
#define LOX_FUSED , optimize("fp-contract=fast")
#endif

using Float8 = float __attribute__((vector_size(32)));
using Float16 = float __attribute__((vector_size(64)));

#define LOX_KERNEL avx2
#define LOX_TARGET __attribute__((target("avx2,fma") LOX_FUSED))
#define LOX_VECTOR Float8
#include "thin_product_kernel.inc"
#undef LOX_KERNEL
#undef LOX_TARGET
#undef LOX_VECTOR
#define LOX_KERNEL avx512
#define LOX_TARGET __attribute__((target("avx512f,fma") LOX_FUSED))
#define LOX_VECTOR Float16
#include "thin_product_kernel.inc"
#undef LOX_KERNEL
#undef LOX_TARGET
#undef LOX_VECTOR

enum class Kernel { avx512, avx2, none };

/// LOX_WITHOUT_AVX512 and LOX_WITHOUT_AVX2 are for tests: they leave out what the processor has.
Kernel best_kernel() {
#ifndef LOX_WITHOUT_AVX2
#ifndef LOX_WITHOUT_AVX512
  if (__builtin_cpu_supports("avx512f")) return Kernel::avx512;
#endif
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Kernel::avx2;
#endif
  return Kernel::none;
}

Kernel kernel() {
  static const Kernel best = best_kernel();
  return best;
}

/// Columns [first, first + padded) of a panel, row major, zero where it has none.
void pack(const Panel& x, Index first, float* to) {
  const Index count = std::min(padded, x.cols() - first);
  for (Index i = 0; i < x.rows(); ++i) {
    for (Index j = 0; j < padded; ++j) to[i * padded + j] = j < count ? x(i, first + j) : 0;
  }
}

void unpack(const float* from, Index first, Panel& y) {
  const Index count = std::min(padded, y.cols() - first);
  for (Index j = 0; j < count; ++j) {
    for (Index i = 0; i < y.rows(); ++i) y(i, first + j) = from[i * padded + j];
  }
}

/// Calls work(packed x, packed y) for every `padded` columns.
template <class Work>
void by_columns(const Panel& x, Panel& y, Work work) {
  Buffer from(static_cast<std::size_t>(x.rows() * padded) * sizeof(float));
  Buffer to(static_cast<std::size_t>(y.rows() * padded) * sizeof(float));
  for (Index first = 0; first < x.cols(); first += padded) {
    pack(x, first, from.floats().data());
    work(from.floats().data(), to.floats().data());
    unpack(to.floats().data(), first, y);
  }
}

#endif

}  // namespace

void multiply(const RowMajorView& a, const Panel& x, Panel& y) {
#ifdef LOX_X86
  if (kernel() != Kernel::none) {
    const Index m = a.rows();
    const Index n = a.cols();
    y.resize(m, x.cols());
    by_columns(x, y, [&](const float* from, float* to) {
      constexpr Index rows_at_once = 96;  // of A by a thread: a whole number of either kernel's
#pragma omp parallel for schedule(static)
      for (Index first = 0; first < m; first += rows_at_once) {
        const Index last = std::min(m, first + rows_at_once);
        if (kernel() == Kernel::avx512) {
          avx512::multiply_rows<1, 8>(a.data(), n, first, last, reinterpret_cast<const Float16*>(from),
                                      reinterpret_cast<Float16*>(to));
        } else {
          avx2::multiply_rows<2, 6>(a.data(), n, first, last, reinterpret_cast<const Float8*>(from),
                                    reinterpret_cast<Float8*>(to));
        }
      }
    });
    return;
  }
#endif
  y.noalias() = a * x;
}

void multiply_adjoint(const RowMajorView& a, const Panel& x, Panel& y) {
#ifdef LOX_X86
  if (kernel() != Kernel::none) {
    const Index m = a.rows();
    const Index n = a.cols();
    y.resize(n, x.cols());
    // Every thread gets columns; the width does not change a result.
    const Index share = (n + omp_get_max_threads() - 1) / omp_get_max_threads();
    const Index width = std::clamp<Index>((share + padded - 1) / padded * padded, padded, tile_size);
    by_columns(x, y, [&](const float* from, float* to) {
#pragma omp parallel for schedule(static)
      for (Index first = 0; first < n; first += width) {
        const Index last = std::min(n, first + width);
        if (kernel() == Kernel::avx512) {
          avx512::multiply_cols<1, 8>(a.data(), m, n, first, last, reinterpret_cast<const Float16*>(from),
                                      reinterpret_cast<Float16*>(to));
        } else {
          avx2::multiply_cols<2, 6>(a.data(), m, n, first, last, reinterpret_cast<const Float8*>(from),
                                    reinterpret_cast<Float8*>(to));
        }
      }
    });
    return;
  }
#endif
  y.noalias() = a.transpose() * x;
}

const char* thin_product_kernel() {
#ifdef LOX_X86
  if (kernel() == Kernel::avx512) return "avx512f";
  if (kernel() == Kernel::avx2) return "avx2";
#endif
  return "blas";
}

}  // namespace lox
