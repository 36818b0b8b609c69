// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/matrix.hpp"
#include "lox/linalg/missed.hpp"
#include "lox/linalg/settled.hpp"

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace lox {

/// How a truncated SVD was found. `full`: none was needed, Delta_k = Delta; `lora`: from the factors B and A
/// that Delta is the product of.
enum class Method { krylov, exact, full, lora };
inline constexpr std::array<Method, 4> methods{Method::krylov, Method::exact, Method::full, Method::lora};
std::string_view method_name(Method method);

/// Delta_k = u diag(sigma) v^T, largest first; fewer than k columns if the rank is smaller. u and v are whole
/// on every rank.
struct Factors {
  Small u;                    ///< m x r
  std::vector<double> sigma;  ///< r
  Small v;                    ///< n x r
};

/// Rounds the factors to what a store of them holds (docs/formats.md): to float, or with `wide` u and v to
/// the sum of two floats; sigma stays as it is. An edit is made of such factors wherever they come from, so
/// its bytes are the same.
void round_factors(Factors& factors, bool wide);

/// Measured on the factors themselves: are they singular triplets of Delta?
struct Certificate {
  double residual = 0;       ///< max over i <= k of max(|Delta v_i - s_i u_i|, |Delta^T u_i - s_i v_i|) / s_i
  double orthogonality = 0;  ///< largest entry of |U^T U - I| and |V^T V - I|
  bool operator==(const Certificate&) const = default;
  bool holds(double tolerance) const { return residual <= tolerance && orthogonality <= tolerance; }
};

struct SvdOptions {
  Index k = 6;
  Method method = Method::krylov;  ///< krylov or exact; krylov gives way to exact where that is cheaper
  double tolerance = 1e-4;         ///< for the certificate
  double delta_error = 0;          ///< |error of Delta_k|_F to reach as well, where reachable; 0: none asked
  double norm_squared = 0;         ///< |Delta|_F^2, which tells what is left to find; 0: unknown
  double proof = 0.5;              ///< bound on Missed::epsilon
  bool wide = false;               ///< calculate in double from the start
  bool fall_back = true;           ///< the exact method takes over where the Krylov method fails
  std::uint64_t key = 0;           ///< of the random start
  EveryK every_k = EveryK::ignored;
};

struct SvdResult {
  Factors factors;
  Method method = Method::krylov;
  Certificate certificate;
  Missed missed;
  int iterations = 0;   ///< of the Krylov method
  bool failed = false;  ///< the Krylov method reached no certificate, and the exact one was not to take over
  bool settled = true;  ///< the estimated error of Delta_k is below delta_error; it is not where s_k = s_k+1
  std::vector<double> residuals;     ///< measured, of every triplet: Certificate::residual is the largest
  std::vector<Unsettled> unsettled;  ///< each k' <= k whose Delta_k' is not, if options.every_k asks
};

/// The top k singular triplets of a matrix held by this rank, whose largest entry is between 2^-40 and 2^40
/// (see rescale()). If the Krylov method does not reach the tolerance, or cannot prove that they are the
/// largest, the exact one takes over, and `method` says so; without `fall_back`, `failed` does. The caller
/// compares the certificate with the tolerance.
SvdResult truncated_svd(const RowMajorView& delta, const SvdOptions& options);

/// The same by LAPACK in double: eigenvectors of the smaller Gram matrix, level by level where singular
/// values differ by more than a Gram matrix can tell. Relative error of each sigma about 1e-9. `next`: s_k+1
/// if asked for, at a further reduction of the Gram matrix; 0 if it is far below s_k.
Factors exact_svd(const RowMajorView& delta, Index k, double* next = nullptr);

/// Does k leave so little out that the Krylov method would cost more than the exact one?
bool prefers_exact(Index rows, Index cols, Index k);

/// What the methods take on one thread, fitted to the tables of docs/benchmarks.md. Iterations: of spectra
/// like those of alignment.
double expected_iterations(Index k);
struct Effort {
  double flops = 0;
  double seconds = 0;
};
Effort krylov_effort(double rows, double cols, Index k);
Effort exact_effort(double rows, double cols, Index k);

/// Columns that the Krylov method multiplies at once, as many as the thin products take. Wider blocks need
/// fewer passes, each of more arithmetic; measured in docs/benchmarks.md.
inline constexpr Index krylov_block = 8;
/// Columns that it keeps for k, and for SvdOptions::proof.
Index krylov_basis(Index k, double proof = 0.5);

}  // namespace lox
