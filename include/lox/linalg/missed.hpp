// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/matrix.hpp"

namespace lox {

/// No singular value of Delta above (1 + epsilon) s_k is missing among the triplets found, except with this
/// probability over the random start.
struct Missed {
  double epsilon = 0;
  double probability = 0;
  bool operator==(const Missed&) const = default;
};

/// The probability that is promised.
inline constexpr double miss_probability = 1e-9;

/// What is known of a block Krylov space: the span of (A^T A)^j X for j < passes, X of independent normal
/// numbers, that A's image of was taken as well.
struct KrylovSpace {
  Index block = 8;       ///< columns of X
  Index wanted = 1;      ///< how many of the largest singular values are to be found in it, at most `block`
  int passes = 1;        ///< products with A and with A^T
  double dimension = 1;  ///< min(m, n)
  bool ahead = true;     ///< Ritz values of A's image of the space, half a pass better than those of itself
  double tail = -1;  ///< squares of all other singular values over that of the k-th Ritz value; -1: unknown
};

/// Probability that the smallest singular value of a rows x block matrix of independent normal numbers, rows
/// <= block, is below t (an upper bound). Chen and Dongarra 2005, Lemma 3.3.
double smallest_value_tail(Index rows, Index block, double t);

/// Smallest epsilon for which every one of the `wanted` largest singular values sigma_i is at most
/// (1 + epsilon) times the i-th Ritz value, but for this probability; infinite if the block is too narrow.
/// Derived in docs/numerics.md.
double missed_epsilon(const KrylovSpace& space, double probability = miss_probability);

/// Passes that bring missed_epsilon() down to `epsilon`; a large number if none do.
int passes_for(const KrylovSpace& space, double epsilon);

/// The probability that a space which A^T A maps into itself lacks one of the `wanted` largest singular
/// vectors, when directions below `floor` of the start are lost to rounding.
double exhausted_probability(const KrylovSpace& space, double floor);

}  // namespace lox
