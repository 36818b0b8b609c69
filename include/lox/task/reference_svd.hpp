// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/matrix.hpp"

#include <functional>

namespace lox {

/// Singular triplets of a delta in double, by code that the solver has no part in.
struct ReferenceSvd {
  Eigen::VectorXd sigma;  ///< all of them, largest first; 0 below 1e-12 of the largest: not resolved
  Small u;                ///< m x count, orthonormal
  Small v;                ///< n x count
};

/// How many triplets are wanted, once all singular values are known.
using CountTriplets = std::function<Index(const Eigen::VectorXd& sigma)>;

/// The triplets of `delta` that `count` asks for; those whose value is 0 have no vectors. `k` of them must be
/// right to about 1e-8 of their own size: where s_k is so small beside s_1 that a Gram matrix loses it, a
/// real SVD is taken.
ReferenceSvd reference_svd(const RowMajorView& delta, Index k, const CountTriplets& count);

/// Eigenvalues of a symmetric matrix (its lower half counts), largest first, and the vectors of the `count`
/// largest.
struct ReferenceEigen {
  Eigen::VectorXd values;
  Small vectors;
};
ReferenceEigen reference_eigen(Small symmetric, Index count);

}  // namespace lox
