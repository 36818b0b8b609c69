// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/dtype.hpp"
#include "lox/linalg/matrix.hpp"

#include <cstddef>
#include <span>
#include <string>

namespace lox {

/// Rows of a matrix in double.
using RowsInDouble = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A matrix in three models: row major, as files hold it, or in F32 what they hold quantised.
struct EditedMatrix {
  Index rows = 0;
  Index cols = 0;
  Index common = 0;  ///< rows that the base has
  DType base_dtype = DType::BF16;
  DType aligned_dtype = DType::BF16;
  DType dtype = DType::BF16;  ///< of the hardened one
  std::span<const std::byte> base;
  std::span<const std::byte> aligned;
  std::span<const std::byte> hardened;

  /// Rows [first, first + count) of the aligned or the hardened matrix.
  RowsInDouble aligned_rows(Index first, Index count) const;
  RowsInDouble hardened_rows(Index first, Index count) const;
};

/// Delta of a matrix, subtracted in double and rounded once.
RowMajorMatrix reference_delta(const EditedMatrix& matrix);

/// Factors as a store holds them, in double. `delta` is empty where the store does not hold it.
struct StoredFactors {
  Small u;
  Eigen::VectorXd sigma;
  Small v;
  RowMajorMatrix delta;
};

/// What a matrix was held against, and the outcome.
struct Judgement {
  enum class Kind {
    none,    ///< Delta or coef is 0: no edit
    whole,   ///< full rank: a multiple of Delta
    unique,  ///< Delta_k is determined: every entry
    tied,    ///< singular values are equal at k: some right choice among them gives every entry
  };
  Kind kind = Kind::unique;
  std::string fault;       ///< empty: the matrix is as it should be
  double as_expected = 1;  ///< share of entries that are right to the last bit but for float32 arithmetic
  Index tied = 0;          ///< how many singular values are equal, of which
  Index chosen = 0;        ///< so many belong to Delta_k
  bool undecided = false;  ///< tied, and no right choice was found, yet rounding or want of time may hide it
  bool loose = false;      ///< tied, with more choices than entries that show the edit: proves little
};

/// How far float32 arithmetic puts an entry of W_aligned + edit off, beside the rounding to `dtype`.
double arithmetic_noise(DType dtype, double aligned, double edit);

/// Holds a hardened matrix against W_aligned + coef * Delta_k, formed anew in double. k = 0: full rank.
Judgement judge_edit(const EditedMatrix& matrix, Index k, double coef);

/// Holds a hardened matrix against W_aligned + edit. An entry may be off by `share` of the rms of its row and
/// column of the edit, and by `slack`, beside rounding.
void hold_against_edit(const EditedMatrix& matrix, const RowsInDouble& edit, double share, double slack,
                       Judgement& judgement);

/// Holds a hardened matrix against W_aligned + coef times the first k stored triplets; the base is not looked
/// at.
Judgement judge_blend(const EditedMatrix& matrix, const StoredFactors& factors, Index k, double coef);

}  // namespace lox
