// SPDX-License-Identifier: MIT
#include "lox/linalg/krylov_basis.hpp"

namespace lox {

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

}  // namespace lox
