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

AdjointFromSquare::AdjointFromSquare(Index limit, double tolerance, bool pays)
    // Twice what ends the method anyway (krylov_converged).
    : bound_(std::min(0.1 * tolerance, 2e-6)), pays_(pays), errors_(Small::Zero(limit, limit)) {}

bool AdjointFromSquare::allowed(const Extension& down, double largest) {
  if (!pays_) return false;
  const double rounding = 1e-7 * largest;
  const double bound = bound_ * largest;
  const auto size = [](const Small& gram) { return std::sqrt(small_svd(gram).sigma[0]); };
  const Index old = down.inside.rows();
  const Index added = down.outside.rows();
  Small errors = rounding * rounding * Small::Identity(added, added);  // of a product
  bool allowed = false;
  pays_ = false;
  if (added == down.outside.cols()) {  // else there is no telling what A^T did to the directions dropped
    const Small inverse = down.outside.inverse();
    const Eigen::VectorXd lengths =
        (down.inside.colwise().squaredNorm() + down.outside.colwise().squaredNorm()).cwiseSqrt().transpose();
    const Small own = rounding * lengths.asDiagonal() * inverse;
    const Small passed = down.inside * inverse;
    const Small fresh = own.transpose() * own;
    const Small grown = fresh + passed.transpose() * errors_.topLeftCorner(old, old) * passed;
    pays_ = size(fresh) <= bound;
    allowed = pays_ && size(grown) <= bound;
    if (allowed) errors = grown;
  }
  errors_.block(old, old, added, added) = errors;
  return allowed;
}

void AdjointFromSquare::rotate(const Small& kept) {
  if (!pays_) return;
  const Small errors = kept.transpose() * errors_.topLeftCorner(kept.rows(), kept.rows()) * kept;
  errors_.setZero();
  errors_.topLeftCorner(kept.cols(), kept.cols()) = errors;
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
