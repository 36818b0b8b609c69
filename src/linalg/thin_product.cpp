// SPDX-License-Identifier: MIT
#include "lox/linalg/thin_product.hpp"

#include "lox/base/buffer.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <omp.h>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__)
#define LOX_X86 1
#endif

namespace lox {
namespace {

#ifdef LOX_X86

constexpr Index line = 16;         // floats in a line of the cache
constexpr Index group = 8;         // columns of a panel that are multiplied at once
constexpr Index tile_size = 512;   // rows of a group that stay in the first-level cache: 16 KiB
constexpr Index rows_at_once = 3;  // of A: their sums with a group's columns fill the registers
constexpr Index strip_limit = 24;  // rows of A that are in the second-level cache for all groups and products
constexpr Index strip_bytes = 256 << 10;
constexpr Index thread_limit = 64;  // each keeps a sum of the width of A
constexpr Index sum_rows = 240;     // rows of A added up before the sum goes to its total: bounds rounding

/// What a product with this strip asks for of the next one, since the processor's own prefetching starts anew
/// with every row: pairs of cache lines whose number & mask is `pair`. A share for each product with a strip
/// (if they are three, for two), so that memory is busy all the time.
struct Fetch {
  std::uintptr_t mask;
  std::uintptr_t pair;
};
constexpr Fetch nothing{0, 1};

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
#define LOX_LINES 3
#define LOX_COLUMNS 4
#include "thin_product_kernel.inc"
#undef LOX_KERNEL
#undef LOX_TARGET
#undef LOX_VECTOR
#undef LOX_LINES
#undef LOX_COLUMNS
#define LOX_KERNEL avx512
#define LOX_TARGET __attribute__((target("avx512f,fma") LOX_FUSED))
#define LOX_VECTOR Float16
#define LOX_LINES 2
#define LOX_COLUMNS 8
#include "thin_product_kernel.inc"
#undef LOX_KERNEL
#undef LOX_TARGET
#undef LOX_VECTOR
#undef LOX_LINES
#undef LOX_COLUMNS

/// The loops for one instruction set; declared in thin_product_kernel.inc.
struct Kernel {
  const char* name;
  decltype(&avx2::multiply_strip) multiply;
  decltype(&avx2::multiply_strip_adjoint) multiply_adjoint;
};

/// LOX_WITHOUT_AVX512 and LOX_WITHOUT_AVX2 are for tests: they leave out what the processor has.
#ifdef LOX_WITHOUT_AVX2
constexpr bool allow_avx2 = false;
#else
constexpr bool allow_avx2 = true;
#endif
#ifdef LOX_WITHOUT_AVX512
constexpr bool allow_avx512 = false;
#else
constexpr bool allow_avx512 = allow_avx2;
#endif

/// None if this processor needs the BLAS.
const Kernel* kernel() {
  static constexpr Kernel with_avx512{"avx512f", avx512::multiply_strip, avx512::multiply_strip_adjoint};
  static constexpr Kernel with_avx2{"avx2", avx2::multiply_strip, avx2::multiply_strip_adjoint};
  if (allow_avx512 && __builtin_cpu_supports("avx512f")) return &with_avx512;
  if (allow_avx2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &with_avx2;
  return nullptr;
}

/// A panel as the loops take it: groups of 8 columns, each for every 16 rows 8 columns of 16 floats.
class PackedPanel {
 public:
  PackedPanel(Index rows, Index cols)
      : rows_(rows),
        cols_(cols),
        group_size_((rows + line - 1) / line * line * group),
        floats_(static_cast<std::size_t>(group_size_ * groups()) * sizeof(float)) {}

  Index groups() const { return (cols_ + group - 1) / group; }
  float* group_at(Index g) const { return floats_.floats().data() + g * group_size_; }

  void set_zero() { std::ranges::fill(floats_.floats(), 0.0F); }
  void add(const PackedPanel& other) {
    float* const to = group_at(0);
    const float* const from = other.group_at(0);
    for (Index i = 0; i < group_size_ * groups(); ++i) to[i] += from[i];
  }
  void pack(const Panel& panel) {
    if (cols_ % group != 0 || rows_ % line != 0) set_zero();
    each_line([&](float* packed, Index row, Index col, std::size_t bytes) {
      std::memcpy(packed, &panel.coeffRef(row, col), bytes);
    });
  }
  void unpack(Panel& panel) const {
    panel.resize(rows_, cols_);
    each_line([&](const float* packed, Index row, Index col, std::size_t bytes) {
      std::memcpy(&panel.coeffRef(row, col), packed, bytes);
    });
  }

 private:
  template <class Work>
  void each_line(Work work) const {
    for (Index col = 0; col < cols_; ++col) {
      float* packed = group_at(col / group) + col % group * line;
      for (Index row = 0; row < rows_; row += line, packed += group * line) {
        work(packed, row, col, static_cast<std::size_t>(std::min(line, rows_ - row)) * sizeof(float));
      }
    }
  }
  Index rows_, cols_, group_size_;
  mutable Buffer floats_;
};

/// y = A x and z = A^T u, either of them if asked for (x, u not null), in one pass over A. u may be y.
void sweep(const Kernel& loops, const RowMajorView& a, const Panel* x, Panel* y, const Panel* u, Panel* z) {
  const Index m = a.rows();
  const Index n = a.cols();
  const Index fitting = strip_bytes / (static_cast<Index>(sizeof(float)) * std::max<Index>(n, 1));
  const Index strip = std::clamp<Index>(fitting / rows_at_once * rows_at_once, 2 * rows_at_once, strip_limit);
  const Index chunk = sum_rows / strip * strip;  // of rows; fixed by A's width, so that threads change no sum
  PackedPanel right(n, x != nullptr ? x->cols() : 0);
  if (x != nullptr) {
    right.pack(*x);
    y->resize(m, x->cols());
  }
  const Index total_cols = u != nullptr ? u->cols() : 0;
  PackedPanel total(n, total_cols);
  total.set_zero();
  const auto chunks = (m + chunk - 1) / chunk;
  const auto threads =
      static_cast<int>(std::clamp<Index>(chunks, 1, std::min<Index>(omp_get_max_threads(), thread_limit)));
  struct Scratch {
    PackedPanel part;            // of z: the sum over a chunk
    std::vector<float> weights;  // a strip's rows of y or u, by groups
  };
  std::vector<Scratch> scratch;
  const Index products = right.groups() + total.groups();  // with each strip
  const std::uintptr_t shares = std::bit_floor(static_cast<std::uintptr_t>(products));
  const Index groups = std::max(right.groups(), total.groups());
  for (int thread = 0; thread < threads; ++thread) {
    scratch.push_back({PackedPanel(n, total_cols),
                       std::vector<float>(static_cast<std::size_t>(groups * strip_limit * group))});
  }
#pragma omp parallel for ordered schedule(static, 1) num_threads(threads)
  for (Index begin = 0; begin < m; begin += chunk) {
    Scratch& mine = scratch[static_cast<std::size_t>(omp_get_thread_num())];
    mine.part.set_zero();
    const Index end = std::min(m, begin + chunk);
    for (Index first = begin; first < end; first += strip) {
      const Index rows = std::min(strip, end - first);
      const float* const at = a.data() + first * n;
      const auto weights_of = [&](Index g) { return mine.weights.data() + g * strip_limit * group; };
      const auto each_weight = [&](Index cols, auto work) {
        for (Index c = 0; c < cols; ++c) {
          for (Index i = 0; i < rows; ++i) work(weights_of(c / group)[i * group + c % group], first + i, c);
        }
      };
      // Without another thread, the next chunk begins with the next strip.
      const bool is_last = first + strip >= (threads == 1 ? m : end);
      std::uintptr_t product = 0;
      const auto next_fetch = [&] {
        const std::uintptr_t share = product++;
        return is_last || share >= shares ? nothing : Fetch{shares - 1, share};
      };
      if (x != nullptr) {
        for (Index g = 0; g < right.groups(); ++g) {
          loops.multiply(at, n, rows, n, next_fetch(), right.group_at(g), weights_of(g));
        }
        each_weight(x->cols(), [&](float weight, Index i, Index c) { (*y)(i, c) = weight; });
      }
      if (u != nullptr && u != y) {
        each_weight(u->cols(), [&](float& weight, Index i, Index c) { weight = (*u)(i, c); });
      }
      for (Index g = 0; g < total.groups(); ++g) {
        loops.multiply_adjoint(at, n, rows, n, next_fetch(), weights_of(g), mine.part.group_at(g));
      }
    }
#pragma omp ordered
    total.add(mine.part);
  }
  if (z != nullptr) total.unpack(*z);
}

#endif

/// The same on any processor.
void multiply_any(const RowMajorView& a, const Panel* x, Panel* y, const Panel* u, Panel* z) {
#ifdef LOX_X86
  if (const Kernel* const loops = kernel()) {
    sweep(*loops, a, x, y, u, z);
    return;
  }
#endif
  if (x != nullptr) y->noalias() = a * *x;
  if (u != nullptr) z->noalias() = a.transpose() * *u;
}

/// In double, by the BLAS: strips of A become double while they are in the cache.
void multiply_wide(const RowMajorView& a, const Small* x, Small* y, const Small* u, Small* z) {
  constexpr Index rows_at_once_wide = 32;
  if (x != nullptr) y->resize(a.rows(), x->cols());
  if (z != nullptr) z->setZero(a.cols(), u->cols());
  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> strip;
  for (Index first = 0; first < a.rows(); first += rows_at_once_wide) {
    const Index count = std::min(rows_at_once_wide, a.rows() - first);
    strip = a.middleRows(first, count).cast<double>();
    if (x != nullptr) y->middleRows(first, count).noalias() = strip * *x;
    if (z != nullptr) z->noalias() += strip.transpose() * u->middleRows(first, count);
  }
}

}  // namespace

void multiply(const RowMajorView& a, const Panel& x, Panel& y) {
  multiply_any(a, &x, &y, nullptr, nullptr);
}

void multiply_adjoint(const RowMajorView& a, const Panel& u, Panel& z) {
  multiply_any(a, nullptr, nullptr, &u, &z);
}

void multiply_both(const RowMajorView& a, const Panel& x, Panel& y, const Panel& u, Panel& z) {
  multiply_any(a, &x, &y, &u, &z);
}

void multiply(const RowMajorView& a, const Small& x, Small& y) {
  multiply_wide(a, &x, &y, nullptr, nullptr);
}

void multiply_adjoint(const RowMajorView& a, const Small& u, Small& z) {
  multiply_wide(a, nullptr, nullptr, &u, &z);
}

void multiply_both(const RowMajorView& a, const Small& x, Small& y, const Small& u, Small& z) {
  multiply_wide(a, &x, &y, &u, &z);
}

const char* thin_product_kernel() {
#ifdef LOX_X86
  if (const Kernel* const loops = kernel()) return loops->name;
#endif
  return "blas";
}

}  // namespace lox
