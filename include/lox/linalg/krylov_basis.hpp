// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/matrix.hpp"
#include "lox/linalg/orthonormalise.hpp"
#include "lox/linalg/small_svd.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <span>

#include <Eigen/LU>

namespace lox {

/// What the block Krylov method needs of an m x n matrix A. Panels hold this rank's rows of a tall matrix, in
/// float or double. The ranks that `sum` adds over hold every row once, so that products of panels are local
/// products and a sum.
template <class A, class P>
concept Multiplies = requires(A& a, const P& x, P& y) {
  a.apply(x, y);             // y = A x, collective
  a.apply_adjoint(x, y);     // y = A^T x, collective
  a.apply_both(x, y, x, y);  // (x, y, u, z): y = A x, then z = A^T u; u may be y; collective
};
template <class A>
concept KrylovOperator = Multiplies<A, Panel> && Multiplies<A, Small> &&
    requires(A& a, std::span<double> numbers, std::uint64_t key) {
  { a.rows() } -> std::convertible_to<Index>;    // m
  { a.cols() } -> std::convertible_to<Index>;    // n
  { A::one_pass } -> std::convertible_to<bool>;  // do both products cost less together?
  a.sum(Side::left, numbers);                    // over ranks, in place, collective
  { a.should_stop() } -> std::same_as<bool>;     // the same on all ranks, collective
  // n x b normal numbers: this rank's rows
  { a.random_panel(Index{}, key) } -> std::same_as<Panel>;
};

/// Decides whether A^T U may be taken from A^T A X, where A X = U_old C + U R (an Extension):
///
///   A^T U = (A^T A X - A^T U_old C) R^-1
///
/// A^T U_old lies in the span of V, which is taken out anyway, but for its own error. So the new error is
/// that of A^T A X, about the rounding of a product times s_1 |A X|, less the old one times C, all times
/// R^-1. It grows from block to block where |C R^-1| > 1, as for noise wider than tall, until A^T U is had by
/// a product of its own once.
class AdjointFromSquare {
 public:
  /// `limit`: most columns of U. `bound`: of the error, relative to s_1. `rounding`: of a product. `pays`: a
  /// pass for A X and A^T A X costs less than two.
  AdjointFromSquare(Index limit, double bound, double rounding, bool pays);

  /// Is the next A^T A X worth having?
  bool pays() const { return pays_; }
  /// May the newest block's A^T U be taken from it? `largest` is s_1, as far as known.
  bool allowed(const Extension& down, double largest);
  /// U is replaced by U * `kept`.
  void rotate(const Small& kept);

 private:
  double bound_;
  double rounding_;
  bool pays_;
  Small errors_;  ///< Gram matrix of what A^T U lacks of V B^T + N S, for columns known so far: an estimate
};

/// The bases of block Golub-Kahan bidiagonalisation with full reorthogonalisation and thick restart (Golub,
/// Luk, Overton 1981; Baglama, Reichel 2005):
///
///   A V = U B        A^T U = V B^T + N S        V, U, N orthonormal, N the next block
///
/// S acts on the newest columns of U only. The triplets come from [B S^T] = U^T A [V N] = P diag(s) Q^T,
/// which is half an iteration ahead of B. Where N has fewer columns than a block, random ones fill it up.
template <class Scalar, KrylovOperator A>
class KrylovBasis {
 public:
  using Block = PanelOf<Scalar>;

  /// `columns` are kept before a restart is needed. `key`: of the random columns. `tolerance`: for triplets.
  KrylovBasis(A& a, Index block, Index columns, double tolerance, std::uint64_t key);

  /// N gets its full width, then V, U and B grow by a block: one product with A and one with A^T. Collective.
  void advance();
  /// Is there room for another block?
  bool has_room() const { return cols_ + block_ <= limit_ - block_; }
  /// Thick restart: the best `kept` triplets of B stay, and N. Returns their values.
  Eigen::VectorXd restart(Index kept);
  /// The same, but N is given up: the next block is random. Nobody could have hidden anything from it, since
  /// the triplets kept were found without it.
  Eigen::VectorXd restart_at_random(Index kept);

  /// A singular value that is known by now: what is far below the largest is rounding.
  void note_largest(double sigma) { largest_ = std::max(largest_, sigma); }

  Index rows() const { return rows_; }  ///< columns of U
  Index cols() const { return cols_; }  ///< columns of V
  /// Has A^T A mapped the space into itself, so that its triplets are exact?
  bool exhausted() const { return tail_.rows() == 0; }
  /// Is nothing but rounding left outside the space?
  bool complete() const { return complete_; }

  Small projected() const;  ///< [B S^T]
  /// |A v - s u| of triplet i of [B S^T], which is what A N will add to U, times N's share of v: an estimate
  /// with the last block's A N, which is larger. A^T u = s v holds as it stands.
  double residual(const SmallSvd& ritz, Index i) const;
  /// Length of what A^T U lacks for the first `count` columns since an N was given up.
  double lost(Index count) const { return lost_.head(std::min(count, rows_)).norm(); }
  /// Its part that no further iteration takes away.
  double lost(const SmallSvd& ritz, Index i) const { return ritz.u.col(i).cwiseAbs().dot(lost_.head(rows_)); }
  /// U p and [V N] q of the first `count` triplets: this rank's rows.
  Small left_vectors(const SmallSvd& ritz, Index count) const;
  Small right_vectors(const SmallSvd& ritz, Index count) const;

 private:
  void fill_up();
  void keep(const SmallSvd& ritz, Index kept);
  SmallSvd small() const { return small_svd(b_.topLeftCorner(rows_, cols_)); }

  A& a_;
  Index block_;
  Index limit_;
  std::uint64_t key_;
  Block right_;           // V
  Block left_;            // U
  Block next_;            // N
  Small b_;               // B
  Small tail_;            // S, of the newest block
  Eigen::VectorXd lost_;  // for columns of U: what A^T U lacks since an N was given up
  double outside_ = 0;    // size of what the last A N added to U
  AdjointFromSquare square_;
  Index rows_ = 0;
  Index cols_ = 0;
  Index random_ = 0;          // columns of N that are random
  double largest_ = 0;        // singular value, as far as known
  std::uint64_t panels_ = 0;  // random panels drawn
  bool complete_ = false;
};

template <class Scalar, KrylovOperator A>
KrylovBasis<Scalar, A>::KrylovBasis(A& a, Index block, Index columns, double tolerance, std::uint64_t key)
    : a_(a),
      block_(block),
      limit_(std::min(columns, std::max(a.rows(), a.cols())) + block),
      key_(key),
      b_(Small::Zero(limit_, limit_)),
      lost_(Eigen::VectorXd::Zero(limit_)),
      square_(limit_, std::min(0.1 * tolerance, 20 * arithmetic<Scalar>.product), arithmetic<Scalar>.product,
              A::one_pass) {}

template <class Scalar, KrylovOperator A>
void KrylovBasis<Scalar, A>::fill_up() {
  const Index width = next_.cols();
  random_ = 0;
  if (width >= block_) return;
  Block random =
      a_.random_panel(block_ - width, key_ + panels_++ * 0x9E3779B97F4A7C15ULL).template cast<Scalar>();
  if (right_.cols() == 0) right_.resize(random.rows(), limit_);
  if (width > 0) right_.middleCols(cols_, width) = next_;
  extend<Scalar>(a_, Side::right, right_.leftCols(cols_ + width), random, 1e-3);
  random_ = random.cols();
  next_.conservativeResize(random.rows(), width + random_);
  next_.rightCols(random_) = random;
}

template <class Scalar, KrylovOperator A>
void KrylovBasis<Scalar, A>::advance() {
  fill_up();
  if (next_.cols() == 0) {  // V spans everything
    complete_ = true;
    return;
  }
  const Index width = next_.cols();
  right_.middleCols(cols_, width) = next_;
  Block image;
  Block back;
  if (square_.pays()) {
    a_.apply_both(next_, image, image, back);
  } else {
    a_.apply(next_, image);
  }
  if (left_.cols() == 0) left_.resize(image.rows(), limit_);
  // Relative to A, not to this block: what random columns find may all be rounding.
  double squares = image.template cast<double>().squaredNorm();
  a_.sum(Side::left, std::span(&squares, 1));
  const double length = std::sqrt(squares);
  const double floor = arithmetic<Scalar>.direction * (length > 0 ? std::max(1.0, largest_ / length) : 1);
  const Extension down = extend<Scalar>(a_, Side::left, left_.leftCols(rows_), image, floor);
  b_.block(0, cols_, rows_, width) = down.inside;
  b_.block(rows_, cols_, image.cols(), width) = down.outside;
  left_.middleCols(rows_, image.cols()) = image;
  rows_ += image.cols();
  cols_ += width;
  outside_ = down.outside.size() > 0 ? small_svd(down.outside).sigma[0] : 0;
  tail_ = Small::Zero(0, image.cols());
  next_.resize(right_.rows(), 0);
  if (image.cols() > 0) {
    largest_ = std::max(largest_, outside_);
    if (square_.allowed(down, largest_)) {
      next_.noalias() = back * down.outside.inverse().template cast<Scalar>();
    } else {
      a_.apply_adjoint(image, next_);
    }
    tail_ =
        extend<Scalar>(a_, Side::right, right_.leftCols(cols_), next_, arithmetic<Scalar>.direction).outside;
  }
  complete_ = rows_ == a_.rows() || cols_ == a_.cols() || (image.cols() == 0 && random_ == width);
}

template <class Scalar, KrylovOperator A>
void KrylovBasis<Scalar, A>::keep(const SmallSvd& ritz, Index kept) {
  left_.leftCols(kept) = (left_.leftCols(rows_) * ritz.u.leftCols(kept).template cast<Scalar>()).eval();
  right_.leftCols(kept) = (right_.leftCols(cols_) * ritz.v.leftCols(kept).template cast<Scalar>()).eval();
  square_.rotate(ritz.u.leftCols(kept));
  const Eigen::VectorXd lost = ritz.u.leftCols(kept).cwiseAbs().transpose() * lost_.head(rows_);
  lost_.setZero();
  lost_.head(kept) = lost;
  b_.setZero();
  b_.diagonal().head(kept) = ritz.sigma.head(kept);
  rows_ = cols_ = kept;
}

template <class Scalar, KrylovOperator A>
Eigen::VectorXd KrylovBasis<Scalar, A>::restart(Index kept) {
  const SmallSvd ritz = small();
  keep(ritz, kept);
  return ritz.sigma.head(kept);
}

template <class Scalar, KrylovOperator A>
Eigen::VectorXd KrylovBasis<Scalar, A>::restart_at_random(Index kept) {
  const SmallSvd ritz = small();
  kept = std::min(kept, ritz.sigma.size());
  Eigen::VectorXd lost = Eigen::VectorXd::Zero(kept);
  if (tail_.rows() > 0) {
    lost = (tail_ * ritz.u.bottomRows(tail_.cols()).leftCols(kept)).colwise().norm().transpose();
  }
  keep(ritz, kept);
  lost_.head(kept) += lost;
  next_.resize(right_.rows(), 0);
  tail_.resize(0, 0);
  return ritz.sigma.head(kept);
}

template <class Scalar, KrylovOperator A>
Small KrylovBasis<Scalar, A>::projected() const {
  Small c = Small::Zero(rows_, cols_ + tail_.rows());
  c.leftCols(cols_) = b_.topLeftCorner(rows_, cols_);
  c.bottomRightCorner(tail_.cols(), tail_.rows()) = tail_.transpose();
  return c;
}

template <class Scalar, KrylovOperator A>
double KrylovBasis<Scalar, A>::residual(const SmallSvd& ritz, Index i) const {
  const double ahead = ritz.v.col(i).tail(tail_.rows()).norm();
  return outside_ * ahead + lost(ritz, i);
}

template <class Scalar, KrylovOperator A>
Small KrylovBasis<Scalar, A>::left_vectors(const SmallSvd& ritz, Index count) const {
  const Block u = left_.leftCols(rows_) * ritz.u.leftCols(count).template cast<Scalar>();
  return u.template cast<double>();
}

template <class Scalar, KrylovOperator A>
Small KrylovBasis<Scalar, A>::right_vectors(const SmallSvd& ritz, Index count) const {
  Block v = right_.leftCols(cols_) * ritz.v.topRows(cols_).leftCols(count).template cast<Scalar>();
  if (const Index ahead = tail_.rows(); ahead > 0) {
    v.noalias() += next_.leftCols(ahead) * ritz.v.bottomRows(ahead).leftCols(count).template cast<Scalar>();
  }
  return v.template cast<double>();
}

}  // namespace lox
