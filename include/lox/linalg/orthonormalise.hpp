// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/matrix.hpp"

#include <algorithm>
#include <cmath>
#include <span>

namespace lox {

/// X^T X of this rank's rows, accumulated in double.
Small local_gram(const Panel& panel);
Small local_gram(const Small& panel);

/// X^T Y of this rank's rows: float panels are summed in float over 1024 rows, and in double over these sums.
Small local_inner(const Eigen::Ref<const Panel>& x, const Panel& y);
Small local_inner(const Eigen::Ref<const Small>& x, const Small& y);

/// From the Gram matrix of a panel: `basis` (b x r) with panel * basis orthonormal, and `coefficients` (r x
/// b) with panel = (panel * basis) * coefficients + (panel * lesser) * lesser^T. Lesser directions are
/// shorter than `floor`, or than 3e-7 of the longest: a Gram matrix in double does not know them well enough.
struct Orthonormaliser {
  Small basis;
  Small coefficients;
  Small lesser;              ///< b x (b - r)
  double lesser_length = 0;  ///< the longest of panel * lesser, about
};
Orthonormaliser orthonormaliser(const Small& gram, double floor);

/// Which singular vectors a panel is made of: left ones have m rows, right ones n.
enum class Side { left, right };

/// X^T Y over all ranks that hold rows of the panels. Collective over the operator's ranks.
template <class Operator, class Scalar>
Small inner(Operator& op, Side side, const Eigen::Ref<const PanelOf<Scalar>>& x, const PanelOf<Scalar>& y) {
  Small result = local_inner(x, y);
  op.sum(side, std::span(result.data(), static_cast<std::size_t>(result.size())));
  return result;
}
template <class Operator, class Scalar>
Small gram(Operator& op, Side side, const PanelOf<Scalar>& panel) {
  Small result = local_gram(panel);
  op.sum(side, std::span(result.data(), static_cast<std::size_t>(result.size())));
  return result;
}

/// What extend() found: panel = basis * inside + added * outside.
struct Extension {
  Small inside;   ///< c x b
  Small outside;  ///< r x b, r <= b
};

/// Replaces `panel` by an orthonormal basis of what it adds to the orthonormal `basis` (block Gram-Schmidt,
/// twice). Directions that add less than `floor` times the panel's norm are dropped: they are rounding. Where
/// directions are of very different lengths, the short ones are taken in a turn of their own. Collective over
/// the operator's ranks.
template <class Scalar, class Operator>
Extension extend(Operator& op, Side side, const Eigen::Ref<const PanelOf<Scalar>>& basis,
                 PanelOf<Scalar>& panel, double floor) {
  const Index width = panel.cols();
  Extension result{Small::Zero(basis.cols(), width), Small::Zero(width, width)};
  PanelOf<Scalar> rest(panel.rows(), width);
  rest.swap(panel);  // which holds the directions added so far from here on
  Index added = 0;
  Small shares = Small::Identity(width, width);  // of the panel's columns in `rest`
  double cut = -1;
  const auto project = [&](PanelOf<Scalar>& block, const Small& of_panel) {
    const Small inside = inner<Operator, Scalar>(op, side, basis, block);
    if (basis.cols() > 0) block.noalias() -= basis * inside.template cast<Scalar>();
    result.inside += inside * of_panel;
    double squared = inside.squaredNorm();
    if (added > 0) {
      const Small before = inner<Operator, Scalar>(op, side, panel.leftCols(added), block);
      block.noalias() -= panel.leftCols(added) * before.template cast<Scalar>();
      result.outside.topRows(added) += before * of_panel;
      squared += before.squaredNorm();
    }
    return squared;
  };
  while (rest.cols() > 0) {
    const double projected = project(rest, shares);
    const Small products = gram<Operator, Scalar>(op, side, rest);
    if (cut < 0) cut = floor * std::sqrt(products.trace() + projected);
    const Orthonormaliser first = orthonormaliser(products, cut);
    PanelOf<Scalar> directions = rest * first.basis.template cast<Scalar>();
    Small coefficients = first.coefficients * shares;
    project(directions, coefficients);
    const Orthonormaliser second = orthonormaliser(gram<Operator, Scalar>(op, side, directions), 1e-3);
    const Index found = second.basis.cols();
    panel.middleCols(added, found).noalias() = directions * second.basis.template cast<Scalar>();
    result.outside.middleRows(added, found) += second.coefficients * coefficients;
    added += found;
    if (first.basis.cols() == 0 || first.lesser_length <= cut) break;
    rest = (rest * first.lesser.template cast<Scalar>()).eval();
    shares = (first.lesser.transpose() * shares).eval();
  }
  panel.conservativeResize(Eigen::NoChange, added);
  result.outside.conservativeResize(added, Eigen::NoChange);
  return result;
}

}  // namespace lox
