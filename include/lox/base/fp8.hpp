// SPDX-License-Identifier: MIT
#pragma once
#include <cstddef>

namespace lox {

/// What a run of FP8 codes holds.
struct CodeSummary {
  double squared_spacings = 0;  ///< sum of the squares of E4M3's spacing at each code
  bool has_nan = false;         ///< a code is 0x7F or 0xFF
};

/// The largest value of E4M3.
inline constexpr double largest_e4m3 = 448;

/// to[i] = value of codes[i] * scale, rounded once to float. E4M3 as in the OCP 8-bit floating point
/// specification, "E4M3FN": bias 7, no infinity, NaN only 0x7F and 0xFF (here 480 * scale).
CodeSummary scale_e4m3(const std::byte* codes, std::size_t count, float scale, float* to);

/// to[i] = code of the value nearest to values[i] / scale, the quotient in float, ties to even, sizes above
/// 448 to that. Values are finite, scale > 0.
void to_e4m3(const float* values, std::size_t count, float scale, std::byte* to);

}  // namespace lox
