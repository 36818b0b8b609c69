// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/stop.hpp"
#include "lox/linalg/matrix.hpp"
#include "lox/linalg/orthonormalise.hpp"
#include "lox/linalg/small_svd.hpp"
#include "lox/linalg/svd.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <vector>

#include <Eigen/LU>

namespace lox {

/// What the block Krylov method needs of an m x n matrix A. Panels hold this rank's rows of a tall matrix.
/// The ranks that `sum` adds over hold every row once, so that products of panels are local products and a
/// sum.
template <class A>
concept KrylovOperator = requires(A& a, const Panel& x, Panel& y, std::span<double> numbers,
                                  std::uint64_t key) {
  { a.rows() } -> std::convertible_to<Index>;  // m
  { a.cols() } -> std::convertible_to<Index>;  // n
  a.apply(x, y);                               // y = A x, collective
  a.apply_adjoint(x, y);                       // y = A^T x, collective
  a.apply_both(x, y, x, y);  // (x, y, u, z): y = A x, then z = A^T u; u may be y; collective
  { A::one_pass } -> std::convertible_to<bool>;             // do both cost less together?
  a.sum(Side::left, numbers);                               // over ranks, in place, collective
  { a.should_stop() } -> std::same_as<bool>;                // the same on all ranks, collective
  { a.random_panel(Index{}, key) } -> std::same_as<Panel>;  // n x b: this rank's rows, the same for any ranks
};

struct KrylovOptions {
  Index k = 6;
  Index block = 8;   ///< columns multiplied at once
  Index basis = 80;  ///< columns kept before a restart; at least 2 * block and k + 2 * block
  double tolerance = 1e-4;
  double delta_error = 0;  ///< bound on the estimated |error of Delta_k|_F to reach too; 0: none asked
  int max_iterations = 100;
  std::uint64_t key = 0;  ///< of the random start
};

/// The method's sizes for what is asked of an SVD.
KrylovOptions krylov_options(const SvdOptions& options);

/// Singular triplets, largest first, fewer than k if the rank is smaller. u and v hold this rank's rows.
struct KrylovResult {
  Panel u;
  std::vector<double> sigma;
  Panel v;
  int iterations = 0;  ///< each is one product with A and one with A^T
  bool converged = false;
};

/// max over i of max(|A v_i - s_i u_i|, |A^T u_i - s_i v_i|) / s_1, measured: a pass over A for each
/// `krylov_block` triplets, so that it takes no more memory than the method. Collective.
template <KrylovOperator A>
double measure_certificate(A& a, const Panel& u, const std::vector<double>& sigma, const Panel& v) {
  const auto k = static_cast<Index>(sigma.size());
  double worst = 0;
  for (Index first = 0; first < k; first += krylov_block) {
    const Index count = std::min(krylov_block, k - first);
    const Panel left = u.middleCols(first, count);
    const Panel right = v.middleCols(first, count);
    const Eigen::VectorXf s =
        Eigen::Map<const Eigen::VectorXd>(sigma.data() + first, count).template cast<float>();
    const auto look = [&](Side side, Panel& image, const Panel& vectors) {
      image -= vectors * s.asDiagonal();
      Eigen::VectorXd squares = image.cast<double>().colwise().squaredNorm();
      a.sum(side, std::span(squares.data(), static_cast<std::size_t>(count)));
      worst = std::max(worst, squares.maxCoeff());
    };
    Panel image;
    Panel back;
    a.apply_both(right, image, left, back);
    look(Side::left, image, left);
    look(Side::right, back, right);
  }
  return k > 0 ? std::sqrt(worst) / sigma.front() : 0;
}

/// Decides whether A^T U may be taken from A^T A X, where A X = U_old C + U R (an Extension):
///
///   A^T U = (A^T A X - A^T U_old C) R^-1
///
/// A^T U_old lies in the span of V, which is taken out anyway, but for its own error. So the new error is
/// that of A^T A X, about 1e-7 s_1 |A X|, less the old one times C, all times R^-1. It grows from block to
/// block where |C R^-1| > 1, as for noise wider than tall, until A^T U is had by a product of its own once.
class AdjointFromSquare {
 public:
  /// `limit`: most columns of U. `pays`: a pass for A X and A^T A X costs less than two.
  AdjointFromSquare(Index limit, double tolerance, bool pays);

  /// Is the next A^T A X worth having?
  bool pays() const { return pays_; }
  /// May the newest block's A^T U be taken from it? `largest` is s_1, as far as known.
  bool allowed(const Extension& down, double largest);
  /// U is replaced by U * `kept`.
  void rotate(const Small& kept);

 private:
  double bound_;  ///< of the error, relative to s_1
  bool pays_;
  Small errors_;  ///< Gram matrix of what A^T U lacks of V B^T + N S, for columns known so far: an estimate
};

/// Is the estimate good enough? `residuals` are |A^T u_i - s_i v_i| of the Ritz triplets, `sigma` all Ritz
/// values.
bool krylov_converged(const KrylovOptions& options, const Eigen::VectorXd& sigma,
                      const Eigen::VectorXd& residuals);

/// The k largest singular triplets of A by block Golub-Kahan bidiagonalisation with full reorthogonalisation
/// and thick restart (Golub, Luk, Overton 1981; Baglama, Reichel 2005). Invariant: A V = U B and A^T U = V
/// B^T + N S, with V, U, N orthonormal, N the next block, S acting on the newest columns of U only; so
/// residuals cost no product. The basis is bounded whatever the spectrum. Where A^T A X comes in the pass
/// that finds A X, it gives A^T U as long as its rounding allows. Throws Stopped if the operator says so.
/// Collective over the operator's ranks.
template <KrylovOperator A>
KrylovResult krylov_svd(A& a, const KrylovOptions& options) {
  const Index limit = std::min(options.basis, std::max(a.rows(), a.cols())) + options.block;
  Panel next = a.random_panel(options.block, options.key);
  Panel right(next.rows(), limit);
  extend(a, Side::right, right.leftCols(0), next, float_rounding);
  Panel left;  // rows known after the first product
  Small b = Small::Zero(limit, limit);
  Index rows = 0;      // of B: columns of U
  Index cols = 0;      // of B: columns of V
  double largest = 0;  // Ritz value
  AdjointFromSquare square(limit, options.tolerance, A::one_pass);
  KrylovResult result;
  for (;;) {
    if (a.should_stop()) throw Stopped();
    ++result.iterations;
    right.middleCols(cols, next.cols()) = next;
    Panel image;
    Panel back;
    if (square.pays()) {
      a.apply_both(next, image, image, back);
    } else {
      a.apply(next, image);
    }
    if (left.cols() == 0) left.resize(image.rows(), limit);
    const Extension down = extend(a, Side::left, left.leftCols(rows), image, float_rounding);
    b.block(0, cols, rows, next.cols()) = down.inside;
    b.block(rows, cols, image.cols(), next.cols()) = down.outside;
    left.middleCols(rows, image.cols()) = image;
    rows += image.cols();
    cols += next.cols();

    Small tail = Small::Zero(0, image.cols());  // S
    if (image.cols() > 0) {
      largest = std::max(largest, down.outside.norm());
      if (square.allowed(down, largest)) {
        next.noalias() = back * down.outside.inverse().template cast<float>();
      } else {
        a.apply_adjoint(image, next);
      }
      tail = extend(a, Side::right, right.leftCols(cols), next, float_rounding).outside;
    }
    const SmallSvd ritz = small_svd(b.topLeftCorner(rows, cols));
    if (ritz.sigma.size() > 0) largest = ritz.sigma[0];
    const Index wanted = std::min(options.k, ritz.sigma.size());
    const Eigen::VectorXd residuals =
        (tail * ritz.u.bottomRows(tail.cols()).leftCols(wanted)).colwise().norm().transpose();
    result.converged = tail.rows() == 0 || krylov_converged(options, ritz.sigma, residuals);
    if (result.converged || result.iterations >= options.max_iterations) {
      Index found = wanted;
      while (found > 0 && ritz.sigma[found - 1] <= float_rounding * ritz.sigma[0]) --found;
      result.u.noalias() = left.leftCols(rows) * ritz.u.leftCols(found).template cast<float>();
      result.v.noalias() = right.leftCols(cols) * ritz.v.leftCols(found).template cast<float>();
      result.sigma.assign(ritz.sigma.data(), ritz.sigma.data() + found);
      return result;
    }
    if (cols + next.cols() > limit - options.block) {  // thick restart: keep the best half
      const Index kept = std::min({rows, cols, std::max(options.basis / 2, options.k + options.block)});
      left.leftCols(kept) = (left.leftCols(rows) * ritz.u.leftCols(kept).template cast<float>()).eval();
      right.leftCols(kept) = (right.leftCols(cols) * ritz.v.leftCols(kept).template cast<float>()).eval();
      square.rotate(ritz.u.leftCols(kept));
      b.setZero();
      b.diagonal().head(kept) = ritz.sigma.head(kept);
      rows = cols = kept;
    }
  }
}

}  // namespace lox
