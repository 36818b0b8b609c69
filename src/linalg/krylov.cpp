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
  krylov.norm_squared = options.norm_squared;
  krylov.proof = options.proof;
  krylov.wide = options.wide;
  krylov.key = options.key;
  return krylov;
}

AdjointFromSquare::AdjointFromSquare(Index limit, double bound, double rounding, bool pays)
    : bound_(bound), rounding_(rounding), pays_(pays), errors_(Small::Zero(limit, limit)) {}

bool AdjointFromSquare::allowed(const Extension& down, double largest) {
  if (!pays_) return false;
  const double rounding = rounding_ * largest;
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

void ErrorOfDelta::see(const SmallSvd& ritz) {
  constexpr double slowest = 0.97;  // that is believed, a pass
  const Index count = std::min(k_, ritz.sigma.size());
  Small now =
      ritz.u.leftCols(count) * ritz.sigma.head(count).asDiagonal() * ritz.v.leftCols(count).transpose();
  Small difference = now;
  difference.topLeftCorner(last_.rows(), last_.cols()) -= last_;
  const double change = difference.norm();
  const double ratio = change_ > 0 ? std::min(change / change_, slowest) : slowest;
  const double rate = std::max(ratio, rate_);  // of the last two passes the slower one
  rate_ = ratio;
  error_ = 2 * change * rate / (1 - rate);  // twice: an estimate, not a bound
  change_ = change;
  last_ = std::move(now);
}

void ErrorOfDelta::restart(const Eigen::VectorXd& sigma) {
  last_ = Small::Zero(sigma.size(), sigma.size());
  const Index count = std::min(k_, sigma.size());
  last_.diagonal().head(count) = sigma.head(count);
}

}  // namespace lox
