// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/matrix.hpp"

namespace lox {

/// Thin SVD of a small matrix in double (LAPACK dgesdd): matrix = u diag(sigma) v^T.
struct SmallSvd {
  Small u;
  Eigen::VectorXd sigma;
  Small v;
};
SmallSvd small_svd(const Small& matrix);

/// The `count` largest eigenvalues of a symmetric matrix and their vectors, largest first (LAPACK dsyevr).
/// The lower half of the matrix is read. 1 <= count <= rows.
struct TopEigen {
  Eigen::VectorXd values;
  Small vectors;
};
TopEigen top_eigen(Small matrix, Index count);

}  // namespace lox
