// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/matrix.hpp"

#include <cstdint>
#include <string_view>
#include <vector>

namespace lox {

/// How a truncated SVD was found. `full`: none was needed, Delta_k = Delta.
enum class Method { krylov, exact, full };
std::string_view method_name(Method method);

/// Delta_k = u diag(sigma) v^T, largest first; fewer than k columns if the rank is smaller. After a
/// distributed SVD, u and v hold the rows that this rank extrapolates (u) and all rows (v).
struct Factors {
  Panel u;                    ///< m x r
  std::vector<double> sigma;  ///< r
  Panel v;                    ///< n x r
};

struct SvdOptions {
  Index k = 6;
  Method method = Method::krylov;  ///< krylov or exact; krylov gives way to exact where that is cheaper
  double tolerance = 1e-4;         ///< for the certificate
  double delta_error = 0;          ///< |error of Delta_k|_F to reach as well, where reachable; 0: none asked
  std::uint64_t key = 0;           ///< of the random start
};

struct SvdResult {
  Factors factors;
  Method method = Method::krylov;
  /// max over i <= k of max(|Delta v_i - s_i u_i|, |Delta^T u_i - s_i v_i|) / s_1, measured.
  double certificate = 0;
  int iterations = 0;  ///< of the Krylov method
};

/// The top k singular triplets of a matrix held by this rank. If the Krylov method does not reach the
/// tolerance, the exact one takes over, and `method` says so. The caller compares the certificate with the
/// tolerance.
SvdResult truncated_svd(const RowMajorView& delta, const SvdOptions& options);

/// The same by LAPACK in double: eigenvectors of the smaller Gram matrix (absolute error of sigma about 1e-8
/// s_1).
Factors exact_svd(const RowMajorView& delta, Index k);

/// Does k leave so little out that the Krylov method would cost more than the exact one?
bool prefers_exact(Index rows, Index cols, Index k);

/// Columns that the Krylov method multiplies at once, as many as the thin products take. Wider blocks need
/// fewer passes, each of more arithmetic; measured in docs/benchmarks.md.
inline constexpr Index krylov_block = 8;
/// Columns that it keeps for k.
Index krylov_basis(Index k);

}  // namespace lox
