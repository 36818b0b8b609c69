// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/dtype.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace lox {

/// What one pass over a delta finds. Sums are taken in a fixed order: the same bits for any number of
/// threads.
struct DeltaSummary {
  double norm_squared = 0;   ///< |Delta|_F^2
  float largest = 0;         ///< max |Delta|
  double inverse_ulps = 0;   ///< sum of 1 / ulp over sampled entries; not filled in by subtract()
  double sampled = 0;        ///< their number
  double noise_squared = 0;  ///< |rounding of quantised models|_F^2, by estimate; not filled in by subtract()
  bool vanished = false;     ///< a difference of doubles is too small for float
  bool finite = true;        ///< false: an input holds NaN or Inf, or the difference overflows float

  void add(const DeltaSummary& other);
};

/// delta[i] = aligned[i] - base[i], rounded once to float.
DeltaSummary subtract(DType aligned_type, const std::byte* aligned, DType base_type, const std::byte* base,
                      std::span<float> delta);

/// Adds to the summary 1 / ulp, in `output`, of W_aligned where it meets an edit of about delta's size, of
/// every 1021st entry (of a matrix whose entry number `first` comes first) that is not zero in both.
void sample_ulps(DType output, DType aligned_type, const std::byte* aligned, std::span<const float> delta,
                 std::uint64_t first, DeltaSummary& summary);

/// Sum of the squares of entries, in a fixed order.
double sum_of_squares(DType dtype, std::span<const std::byte> values);

/// Index of the first NaN or Inf among `count` elements.
std::optional<std::size_t> find_non_finite(DType dtype, const std::byte* values, std::size_t count);

/// Brings a delta whose entries are so large or small that their squares leave the range of float to the
/// middle of it, by a power of two (exact). Returns the power of two that the result must be multiplied with.
double rescale(std::span<float> delta, float largest);

}  // namespace lox
