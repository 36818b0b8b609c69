// SPDX-License-Identifier: MIT
#include "lox/linalg/krylov.hpp"

namespace lox {

Index krylov_basis(Index k) {
  return std::max<Index>(10 * krylov_block, 2 * k + 2 * krylov_block);
}

KrylovOptions krylov_options(const SvdOptions& options) {
  KrylovOptions krylov;
  krylov.k = options.k;
  krylov.block = krylov_block;
  krylov.basis = krylov_basis(options.k);
  krylov.max_iterations = static_cast<int>(std::max<Index>(200, 4 * options.k));
  krylov.tolerance = options.tolerance;
  krylov.delta_error = options.delta_error;
  krylov.key = options.key;
  return krylov;
}

bool adjoint_from_square(const KrylovOptions& options, const Small& factor, double largest) {
  if (factor.rows() < factor.cols()) return false;  // of what was left out, there is no telling A X's part
  double wanted = options.tolerance * largest;
  if (options.delta_error > 0) wanted = std::min(wanted, options.delta_error);
  const double smallest = small_svd(factor).sigma.tail(1)[0];
  return 1e-7 * largest * largest <= 0.1 * wanted * smallest;
}

bool krylov_converged(const KrylovOptions& options, const Eigen::VectorXd& sigma,
                      const Eigen::VectorXd& residuals) {
  const Index wanted = residuals.size();
  if (wanted < options.k) return false;  // the basis is smaller than k as yet
  const double largest = sigma[0];
  if (!(residuals.maxCoeff() <= options.tolerance * largest)) return false;
  if (options.delta_error <= 0) return true;
  // First-order perturbation: only what leaks across the boundary between k and k + 1 changes Delta_k;
  // triplet i leaks residual / (s_i - s_{k+1}) of its vector.
  const double outside = sigma.size() > wanted ? sigma[wanted] : 0;
  double squares = 0;
  for (Index i = 0; i < wanted; ++i) {
    const double gap = std::max(sigma[i] - outside, 1e-12 * largest);
    squares += std::pow(residuals[i] * sigma[i] / gap, 2);
  }
  if (std::sqrt(squares) <= options.delta_error) return true;
  // s_k = s_{k+1}: Delta_k is not unique and the bound out of reach; stop where float products end.
  return residuals.maxCoeff() <= 1e-6 * largest;
}

}  // namespace lox
