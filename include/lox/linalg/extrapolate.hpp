// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/dtype.hpp"
#include "lox/linalg/svd.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace lox {

/// What rounding made of an edit, summed over entries.
struct EditSummary {
  double edit_squared = 0;   ///< |edit|^2
  double realised_dot = 0;   ///< <W_out - W_aligned, edit>, both rounded to the output's dtype
  std::int64_t changed = 0;  ///< entries that differ from the aligned ones, rounded likewise
  bool finite = true;        ///< false: an entry overflows its dtype

  void add(const EditSummary& other);
};

/// Types of entries that are edited in place.
struct EntryTypes {
  // NOLINTNEXTLINE(google-explicit-constructor): one type is the usual case
  EntryTypes(DType one) : held(one), output(one) {}
  EntryTypes(DType in_place, DType rounded_to) : held(in_place), output(rounded_to) {}
  DType held;    ///< in which they come, and go
  DType output;  ///< to which they are rounded: `held`, or BF16 where F32 is held
};

/// Rows of W_out = W_aligned + coef * u diag(sigma) v^T, in place over the bytes of the aligned rows; one
/// rounding to the output's dtype. The step is formed in float for dtypes of 16 bits, in double for wider
/// ones. `u` holds the rows in question, one for each row of `rows`; row major, v.rows() entries each. Rows
/// of zeros in u leave theirs as they are.
EditSummary extrapolate(EntryTypes types, std::span<std::byte> rows, const Small& u,
                        const std::vector<double>& sigma, const Small& v, double coef);

/// Rows are worked on in blocks of so many: cut elsewhere, the last bits may differ.
Index extrapolation_block(DType dtype, Index cols);

/// W_out = W_aligned + coef * delta, in place: full rank.
EditSummary extrapolate_full(EntryTypes types, std::span<std::byte> values, std::span<const float> delta,
                             double coef);

}  // namespace lox
