// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/matrix.hpp"

#include <cmath>
#include <span>

namespace lox {

/// X^T X of this rank's rows, accumulated in double.
Small local_gram(const Panel& panel);

/// From the Gram matrix of a panel: `basis` (b x r) with panel * basis orthonormal, and `coefficients` (r x
/// b) with panel = (panel * basis) * coefficients, up to directions shorter than `floor`, which are left out.
/// Eigenvectors of the Gram matrix in double, so that a float panel of condition up to 1e7 is made
/// orthonormal to float rounding.
struct Orthonormaliser {
  Small basis;
  Small coefficients;
};
Orthonormaliser orthonormaliser(const Small& gram, double floor);

/// Which singular vectors a panel is made of: left ones have m rows, right ones n.
enum class Side { left, right };

/// X^T Y over all ranks that hold rows of the panels. Collective over the operator's ranks.
template <class Operator>
Small inner(Operator& op, Side side, const Eigen::Ref<const Panel>& x, const Panel& y) {
  const Panel product = x.transpose() * y;
  Small result = product.cast<double>();
  op.sum(side, std::span(result.data(), static_cast<std::size_t>(result.size())));
  return result;
}

/// What extend() found: panel = basis * inside + added * outside.
struct Extension {
  Small inside;   ///< c x b
  Small outside;  ///< r x b, r <= b
};

/// Replaces `panel` by an orthonormal basis of what it adds to the orthonormal `basis` (block Gram-Schmidt,
/// twice). Directions that add less than `floor` times the panel's norm are dropped: they are rounding.
/// Collective over the operator's ranks.
template <class Operator>
Extension extend(Operator& op, Side side, const Eigen::Ref<const Panel>& basis, Panel& panel, double floor) {
  Extension result{Small::Zero(basis.cols(), panel.cols()), Small::Identity(panel.cols(), panel.cols())};
  double cut = 0;
  for (int round = 0; round < 2 && panel.cols() > 0; ++round) {
    const Small inside = inner(op, side, basis, panel);
    if (basis.cols() > 0) panel.noalias() -= basis * inside.cast<float>();
    Small gram = local_gram(panel);
    op.sum(side, std::span(gram.data(), static_cast<std::size_t>(gram.size())));
    if (round == 0) cut = floor * std::sqrt(gram.trace() + inside.squaredNorm());
    const Orthonormaliser q = orthonormaliser(gram, round == 0 ? cut : 1e-3);
    panel = (panel * q.basis.cast<float>()).eval();
    result.inside += inside * result.outside;
    result.outside = (q.coefficients * result.outside).eval();
  }
  return result;
}

}  // namespace lox
