// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/random.hpp"
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
#include <utility>
#include <vector>

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
  { a.rows() } -> std::convertible_to<Index>;               // m
  { a.cols() } -> std::convertible_to<Index>;               // n
  { A::one_pass } -> std::convertible_to<bool>;             // do both products cost less together?
  a.sum(Side::left, numbers);                               // over ranks, in place, collective
  { a.should_stop() } -> std::same_as<bool>;                // the same on all ranks, collective
  { a.random_panel(Index{}, key) } -> std::same_as<Panel>;  // n x b normal numbers: this rank's rows
};

struct KrylovOptions {
  Index k = 6;
  Index block = 8;   ///< columns multiplied at once
  Index basis = 80;  ///< columns kept before a restart; at least 2 * block and k + 2 * block
  double tolerance = 1e-4;
  double delta_error = 0;   ///< bound on the estimated |error of Delta_k|_F to reach too; 0: none asked
  double norm_squared = 0;  ///< |A|_F^2; 0: unknown
  double proof = 0.5;       ///< bound on Missed::epsilon
  bool wide = false;        ///< in double from the start
  int max_iterations = 100;
  std::uint64_t key = 0;  ///< of the random start
};

/// The method's sizes for what is asked of an SVD.
KrylovOptions krylov_options(const SvdOptions& options);

/// Singular triplets, largest first, fewer than k if the rank is smaller. u and v hold this rank's rows.
struct KrylovResult {
  Small u;
  std::vector<double> sigma;
  Small v;
  Certificate certificate;  ///< measured
  Missed missed;
  int iterations = 0;       ///< each is one product with A and one with A^T
  bool converged = false;   ///< certified, and proved to be the largest
  bool settled = false;     ///< the error of Delta_k is below delta_error, by its estimate
  bool needs_wide = false;  ///< float cannot carry what is asked for: nothing else here counts
};

/// The certificate by its definition: a pass over A for each `krylov_block` triplets, so that it takes no
/// more memory than the method. Collective.
template <class Scalar, KrylovOperator A>
Certificate measure_certificate(A& a, const Small& u, const std::vector<double>& sigma, const Small& v) {
  using Block = PanelOf<Scalar>;
  const auto k = static_cast<Index>(sigma.size());
  Certificate certificate;
  for (Index first = 0; first < k; first += krylov_block) {
    const Index count = std::min(krylov_block, k - first);
    const Eigen::Map<const Eigen::VectorXd> s(sigma.data() + first, count);
    const Block left = u.middleCols(first, count).template cast<Scalar>();
    const Block right = v.middleCols(first, count).template cast<Scalar>();
    const auto measure = [&](Side side, Block& image, const Block& vectors) {
      image -= vectors * s.template cast<Scalar>().asDiagonal();
      Eigen::VectorXd squares = image.template cast<double>().colwise().squaredNorm();
      a.sum(side, std::span(squares.data(), static_cast<std::size_t>(count)));
      certificate.residual =
          std::max(certificate.residual, (squares.cwiseSqrt().array() / s.array()).maxCoeff());
    };
    Block image;
    Block back;
    a.apply_both(right, image, left, back);
    measure(Side::left, image, left);
    measure(Side::right, back, right);
  }
  if (k == 0) return certificate;
  for (const auto& [side, vectors] : {std::pair(Side::left, &u), std::pair(Side::right, &v)}) {
    const Small gram_matrix = gram<A, double>(a, side, *vectors);
    certificate.orthogonality =
        std::max(certificate.orthogonality, (gram_matrix - Small::Identity(k, k)).cwiseAbs().maxCoeff());
  }
  return certificate;
}

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

/// Estimates the error of Delta_k from how much it changes from pass to pass, in the coordinates of the
/// bases, which only grow. The changes shrink about as the error does: it is the sum of those to come.
class ErrorOfDelta {
 public:
  explicit ErrorOfDelta(Index k) : k_(k) {}
  /// The next estimate of Delta_k: the k largest triplets.
  void see(const SmallSvd& ritz);
  /// The bases were exchanged for these triplets' vectors.
  void restart(const Eigen::VectorXd& sigma);
  double value() const { return error_; }

 private:
  Index k_;
  Small last_;
  double change_ = 0;
  double rate_ = 0;  ///< of two changes
  double error_ = 0;
};

/// The k largest singular triplets of A by block Golub-Kahan bidiagonalisation with full reorthogonalisation
/// and thick restart (Golub, Luk, Overton 1981; Baglama, Reichel 2005). Invariant: A V = U B and A^T U = V
/// B^T + N S, with V, U, N orthonormal, N the next block, S acting on the newest columns of U only. The
/// triplets come from [B S^T] = U^T A [V N], which is half an iteration ahead of B. Where N has fewer columns
/// than a block, random ones fill it up. The basis is bounded whatever the spectrum.
template <class Scalar, KrylovOperator A>
class KrylovIteration {
 public:
  KrylovIteration(A& a, const KrylovOptions& options)
      : a_(a),
        options_(options),
        limit_(std::min(options.basis, std::max(a.rows(), a.cols())) + options.block),
        b_(Small::Zero(limit_, limit_)),
        lost_(Eigen::VectorXd::Zero(limit_)),
        square_(limit_, std::min(0.1 * options.tolerance, 20 * Rounding<Scalar>::of_product),
                Rounding<Scalar>::of_product, A::one_pass),
        error_(options.k) {}

  /// Throws Stopped if the operator says so. Collective over the operator's ranks.
  KrylovResult run();

 private:
  using Block = PanelOf<Scalar>;
  /// What the random columns of the space prove: a start of nothing but random columns finds the k largest
  /// values; random columns beside triplets that were found before find the largest of what these leave.
  enum class Origin { start, probe, none };

  void fill_up();
  void advance();
  Small projected() const;  // [B S^T]
  void restart(const SmallSvd& ritz, Index kept);
  void begin_probe(Index kept);
  bool accurate(const SmallSvd& ritz, double strictness);
  bool worth_more_passes() const;
  bool too_wide(const SmallSvd& ritz) const;
  Missed missed(const SmallSvd& ritz) const;
  KrylovSpace space(const SmallSvd& ritz) const;
  bool has_room() const { return cols_ + options_.block <= limit_ - options_.block; }
  double residual(const SmallSvd& ritz, Index i) const;
  KrylovResult triplets(const SmallSvd& ritz);

  A& a_;
  const KrylovOptions& options_;
  Index limit_;
  Block right_;           // V
  Block left_;            // U
  Block next_;            // N
  Small b_;               // B
  Small tail_;            // S, of the newest block
  Eigen::VectorXd lost_;  // for columns of U: what A^T U lacks because N was given up for a probe
  double outside_ = 0;    // size of what the last A N added to U
  AdjointFromSquare square_;
  ErrorOfDelta error_;
  Index rows_ = 0;      // of B: columns of U
  Index cols_ = 0;      // of B: columns of V
  Index seen_ = 0;      // columns of U when the triplets were last looked at
  Index fresh_ = 0;     // columns of N that are random
  double largest_ = 0;  // Ritz value
  int iterations_ = 0;
  std::uint64_t panels_ = 0;  // random panels drawn
  Origin origin_ = Origin::start;
  int passes_ = 0;          // since the origin, until the first restart after it
  bool intact_ = true;      // no restart since then
  bool exhausted_ = false;  // since the origin: A^T A has mapped the space into itself
  bool complete_ = false;   // nothing is left outside the space
  bool settled_ = false;
};

/// N gets its full width.
template <class Scalar, KrylovOperator A>
void KrylovIteration<Scalar, A>::fill_up() {
  const Index width = next_.cols();
  fresh_ = 0;
  if (width >= options_.block) return;
  Block random = a_.random_panel(options_.block - width, options_.key + panels_++ * 0x9E3779B97F4A7C15ULL)
                     .template cast<Scalar>();
  if (right_.cols() == 0) right_.resize(random.rows(), limit_);
  if (width > 0) right_.middleCols(cols_, width) = next_;
  extend<Scalar>(a_, Side::right, right_.leftCols(cols_ + width), random, 1e-3);
  fresh_ = random.cols();
  next_.conservativeResize(random.rows(), width + fresh_);
  next_.rightCols(fresh_) = random;
}

/// One product with A and one with A^T: V, U and B grow by a block, N and S are the next.
template <class Scalar, KrylovOperator A>
void KrylovIteration<Scalar, A>::advance() {
  ++iterations_;
  if (intact_) ++passes_;
  const bool all_random = fresh_ == next_.cols();
  right_.middleCols(cols_, next_.cols()) = next_;
  Block image;
  Block back;
  if (square_.pays()) {
    a_.apply_both(next_, image, image, back);
  } else {
    a_.apply(next_, image);
  }
  if (left_.cols() == 0) left_.resize(image.rows(), limit_);
  const double floor = Rounding<Scalar>::floor;
  const Index width = next_.cols();
  const double before = largest_;
  const double length = std::sqrt(gram<A, Scalar>(a_, Side::left, image).trace());
  // Relative to A, not to this block: what random columns find may all be rounding.
  const double relative = length > 0 ? std::max(floor, floor * before / length) : floor;
  const Extension down = extend<Scalar>(a_, Side::left, left_.leftCols(rows_), image, relative);
  b_.block(0, cols_, rows_, width) = down.inside;
  b_.block(rows_, cols_, image.cols(), width) = down.outside;
  left_.middleCols(rows_, image.cols()) = image;
  rows_ += image.cols();
  cols_ += width;
  outside_ = down.outside.size() > 0 ? small_svd(down.outside).sigma[0] : 0;
  tail_ = Small::Zero(0, image.cols());
  next_.resize(right_.rows(), 0);
  if (image.cols() == 0) {
    if (all_random) complete_ = true;  // nothing but rounding is outside the space
  } else {
    largest_ = std::max(largest_, outside_);
    if (square_.allowed(down, largest_)) {
      next_.noalias() = back * down.outside.inverse().template cast<Scalar>();
    } else {
      a_.apply_adjoint(image, next_);
    }
    tail_ = extend<Scalar>(a_, Side::right, right_.leftCols(cols_), next_, floor).outside;
  }
  if (next_.cols() == 0) exhausted_ = true;
  if (rows_ == a_.rows() || cols_ == a_.cols()) complete_ = true;
}

template <class Scalar, KrylovOperator A>
Small KrylovIteration<Scalar, A>::projected() const {
  Small c = Small::Zero(rows_, cols_ + tail_.rows());
  c.leftCols(cols_) = b_.topLeftCorner(rows_, cols_);
  c.bottomRightCorner(tail_.cols(), tail_.rows()) = tail_.transpose();
  return c;
}

/// Thick restart: the best triplets stay. `ritz` is of B.
template <class Scalar, KrylovOperator A>
void KrylovIteration<Scalar, A>::restart(const SmallSvd& ritz, Index kept) {
  left_.leftCols(kept) = (left_.leftCols(rows_) * ritz.u.leftCols(kept).template cast<Scalar>()).eval();
  right_.leftCols(kept) = (right_.leftCols(cols_) * ritz.v.leftCols(kept).template cast<Scalar>()).eval();
  square_.rotate(ritz.u.leftCols(kept));
  const Eigen::VectorXd lost = ritz.u.leftCols(kept).cwiseAbs().transpose() * lost_.head(rows_);
  lost_.setZero();
  lost_.head(kept) = lost;
  b_.setZero();
  b_.diagonal().head(kept) = ritz.sigma.head(kept);
  error_.restart(ritz.sigma.head(kept));
  rows_ = cols_ = seen_ = kept;
  intact_ = false;
}

/// N is given up for random columns: what they find, nobody could have hidden from them, since the triplets
/// kept were found without them.
template <class Scalar, KrylovOperator A>
void KrylovIteration<Scalar, A>::begin_probe(Index kept) {
  const SmallSvd ritz = small_svd(b_.topLeftCorner(rows_, cols_));
  kept = std::min(kept, ritz.sigma.size());
  Eigen::VectorXd lost = Eigen::VectorXd::Zero(kept);
  if (tail_.rows() > 0) {
    lost = (tail_ * ritz.u.bottomRows(tail_.cols()).leftCols(kept)).colwise().norm().transpose();
  }
  restart(ritz, kept);
  lost_.head(kept) += lost;
  next_.resize(right_.rows(), 0);
  tail_.resize(0, 0);
  origin_ = Origin::probe;
  passes_ = 0;
  intact_ = true;
  exhausted_ = false;
}

/// Of triplet i of [B S^T]: A^T u = s v, and A v - s u is what A N adds to U, times N's share of v. A N is
/// the next iteration's; the last one's is larger.
template <class Scalar, KrylovOperator A>
double KrylovIteration<Scalar, A>::residual(const SmallSvd& ritz, Index i) const {
  const double ahead = ritz.v.col(i).tail(tail_.rows()).norm();
  return outside_ * ahead + ritz.u.col(i).cwiseAbs().dot(lost_.head(rows_));
}

/// Are the k largest triplets good enough, as far as one can tell without a product?
template <class Scalar, KrylovOperator A>
bool KrylovIteration<Scalar, A>::accurate(const SmallSvd& ritz, double strictness) {
  constexpr double tie = 1e-3;
  const Index found = ritz.sigma.size();
  const Index k = std::min(options_.k, found);
  if (k < options_.k && !complete_) return false;
  if (k == 0) return settled_ = true;
  const double floor = Rounding<Scalar>::floor * ritz.sigma[0];
  const double rounding = 10 * Rounding<Scalar>::of_product * ritz.sigma[0];
  double worst = 0;      // relative to the triplet's own singular value
  bool at_floor = true;  // the arithmetic has no more to give
  for (Index i = 0; i < k && ritz.sigma[i] > floor; ++i) {
    const double r = residual(ritz, i);
    worst = std::max(worst, r / ritz.sigma[i]);
    at_floor = at_floor && r <= rounding;
  }
  if (worst > strictness * options_.tolerance) return false;
  settled_ = true;
  if (options_.delta_error <= 0 || k < options_.k || ritz.sigma[k - 1] <= floor) return true;
  const double gap = found > k ? ritz.sigma[k - 1] - ritz.sigma[k] : ritz.sigma[k - 1];
  // Rounding mixes triplets k and k + 1 as well.
  const double mixed =
      0.1 * Rounding<Scalar>::of_product * ritz.sigma[0] * ritz.sigma[k - 1] / std::max(gap, 1e-300);
  settled_ = error_.value() <= options_.delta_error && mixed <= options_.delta_error;
  if (settled_) return true;
  return at_floor || (gap < tie * ritz.sigma[k - 1] && worst <= 1e-6);
}

/// Are singular values so different that float loses the smaller ones?
template <class Scalar, KrylovOperator A>
bool KrylovIteration<Scalar, A>::too_wide(const SmallSvd& ritz) const {
  constexpr double widest = 100;
  if constexpr (std::same_as<Scalar, double>) return false;
  if (ritz.sigma.size() == 0 || ritz.sigma[0] == 0) return false;
  if (ritz.sigma.size() < options_.k) return complete_;
  const Index last = options_.k - 1;
  return widest * ritz.sigma[last] < ritz.sigma[0] &&
         (complete_ || residual(ritz, last) <= 0.5 * ritz.sigma[last] ||
          residual(ritz, last) <= Rounding<Scalar>::floor * ritz.sigma[0]);
}

template <class Scalar, KrylovOperator A>
KrylovSpace KrylovIteration<Scalar, A>::space(const SmallSvd& ritz) const {
  KrylovSpace space;
  space.block = options_.block;
  space.wanted = origin_ == Origin::start ? options_.k : 1;
  space.passes = passes_;
  space.dimension = static_cast<double>(std::min(a_.rows(), a_.cols()));
  const Index k = std::min(options_.k, ritz.sigma.size());
  if (options_.norm_squared > 0 && k > 0 && ritz.sigma[k - 1] > 0) {
    const double rounding = 1e-5 * options_.norm_squared;
    const double rest = options_.norm_squared - ritz.sigma.head(k).squaredNorm() + rounding;
    space.tail = std::max(rest, 0.0) / (ritz.sigma[k - 1] * ritz.sigma[k - 1]) + static_cast<double>(k);
  }
  return space;
}

/// How large a singular value can be that is not among the first k.
template <class Scalar, KrylovOperator A>
Missed KrylovIteration<Scalar, A>::missed(const SmallSvd& ritz) const {
  if (complete_ || ritz.sigma.size() == 0) return {0, 0};
  constexpr double unknown = std::numeric_limits<double>::infinity();
  const Index k = std::min(options_.k, ritz.sigma.size());
  if (k < options_.k) return {unknown, 1};
  const double least = ritz.sigma[k - 1];
  if (!(least > 0)) return {unknown, 1};
  Missed best{unknown, 1};
  if (options_.norm_squared > 0) {  // s_i(A)^2 <= s_i(U^T A)^2 + |A|^2 - |U^T A|^2
    const double rounding = 100 * Rounding<Scalar>::of_product * options_.norm_squared;
    const double rest = std::max(options_.norm_squared - ritz.sigma.squaredNorm(), 0.0) + rounding;
    best = {std::sqrt(1 + rest / (least * least)) - 1, 0};
  }
  if (origin_ == Origin::none) return best;
  const KrylovSpace s = space(ritz);
  double epsilon = missed_epsilon(s);
  if (exhausted_ &&
      exhausted_probability(s, Rounding<Scalar>::floor * ritz.sigma[0] / least) <= miss_probability)
    epsilon = 0;
  if (best.epsilon > options_.proof && epsilon < best.epsilon) best = {epsilon, miss_probability};
  return best;
}

/// Do a few more passes prove as much as a probe, for less?
template <class Scalar, KrylovOperator A>
bool KrylovIteration<Scalar, A>::worth_more_passes() const {
  if (origin_ != Origin::start || !intact_ || !has_room()) return false;
  KrylovSpace s;
  s.block = options_.block;
  s.dimension = static_cast<double>(std::min(a_.rows(), a_.cols()));
  const int probe = passes_for(s, options_.proof);
  s.wanted = options_.k;
  return passes_for(s, options_.proof) - passes_ <= probe;
}

template <class Scalar, KrylovOperator A>
KrylovResult KrylovIteration<Scalar, A>::triplets(const SmallSvd& ritz) {
  KrylovResult result;
  Index found = std::min(options_.k, ritz.sigma.size());
  while (found > 0 && ritz.sigma[found - 1] <= Rounding<Scalar>::floor * ritz.sigma[0]) --found;
  result.u = (left_.leftCols(rows_) * ritz.u.leftCols(found).template cast<Scalar>()).template cast<double>();
  Block v = right_.leftCols(cols_) * ritz.v.topRows(cols_).leftCols(found).template cast<Scalar>();
  if (tail_.rows() > 0)
    v.noalias() += next_.leftCols(tail_.rows()) *
                   ritz.v.bottomRows(tail_.rows()).leftCols(found).template cast<Scalar>();
  result.v = v.template cast<double>();
  result.sigma.assign(ritz.sigma.data(), ritz.sigma.data() + found);
  result.certificate = measure_certificate<Scalar>(a_, result.u, result.sigma, result.v);
  result.settled = settled_;
  return result;
}

template <class Scalar, KrylovOperator A>
KrylovResult KrylovIteration<Scalar, A>::run() {
  double strictness = 1;
  KrylovResult best;  // waits for the probe's end
  bool probing = false;
  bool thorough = false;  // the probe goes on until the next value is known, not only bounded
  for (;;) {
    if (a_.should_stop()) throw Stopped();
    fill_up();
    if (next_.cols() == 0) {
      complete_ = true;
    } else {
      advance();
    }
    const bool last = complete_ || iterations_ >= options_.max_iterations;
    // The small problem of a large basis costs more than a pass: not after each.
    const bool due = last || probing || exhausted_ || !has_room() || 16 * (rows_ - seen_) >= rows_;
    if (!due) continue;
    seen_ = rows_;
    const SmallSvd ritz = small_svd(projected());
    if (ritz.sigma.size() > 0) largest_ = std::max(largest_, ritz.sigma[0]);
    error_.see(ritz);
    const Missed now = missed(ritz);
    if (too_wide(ritz)) {
      best.needs_wide = true;
      best.iterations = iterations_;
      return best;
    }
    if (probing) {
      const double least = best.sigma.back();
      const Index k = options_.k;
      bool found_more = false;  // a copy of a larger value moves those below it, not always the last
      for (Index i = 0; i < k; ++i) {
        found_more =
            found_more || ritz.sigma[i] > best.sigma[static_cast<std::size_t>(i)] * (1 + options_.tolerance);
      }
      if (found_more) {
        probing = false;
        origin_ = Origin::none;
      } else {
        const bool known = !thorough || exhausted_ || complete_ || ritz.sigma.size() <= k ||
                           ritz.sigma[k] + residual(ritz, k) <= least * (1 + 2 * options_.tolerance);
        if ((now.epsilon <= options_.proof && known) || last) {
          best.missed = now;
          best.converged = now.epsilon <= options_.proof;
          best.iterations = iterations_;
          return best;
        }
      }
    }
    if (!probing && (accurate(ritz, strictness) || last)) {
      if (now.epsilon <= options_.proof || last || !worth_more_passes()) {
        KrylovResult result = triplets(ritz);
        const bool certified = result.certificate.holds(options_.tolerance) &&
                               (complete_ || static_cast<Index>(result.sigma.size()) == options_.k);
        if (last || (certified && now.epsilon <= options_.proof)) {
          result.missed = now;
          result.iterations = iterations_;
          result.converged = certified && now.epsilon <= options_.proof;
          return result;
        }
        if (certified) {
          best = std::move(result);
          probing = true;
          // As many equal values as a block has columns: there may be more of them, and no telling from here.
          thorough = false;
          for (Index i = 0; i + options_.block <= ritz.sigma.size() && i < options_.k; ++i) {
            thorough = thorough || ritz.sigma[i + options_.block - 1] > ritz.sigma[i] * (1 - 1e-3);
          }
          begin_probe(options_.k);
        } else {
          strictness *= 0.3;
        }
      }
    }
    if (exhausted_ && !probing) {  // random columns go on, which prove nothing of those before
      origin_ = Origin::none;
      exhausted_ = false;
    }
    if (!has_room()) {
      const Index kept = std::min({rows_, cols_, std::max(options_.basis / 2, options_.k + options_.block)});
      restart(small_svd(b_.topLeftCorner(rows_, cols_)), kept);
    }
  }
}

/// In float, or in double where float cannot carry what is asked for. Collective over the operator's ranks.
template <KrylovOperator A>
KrylovResult krylov_svd(A& a, const KrylovOptions& options) {
  int iterations = 0;
  if (!options.wide && options.tolerance >= 1e-6) {
    KrylovResult result = KrylovIteration<float, A>(a, options).run();
    if (!result.needs_wide) return result;
    iterations = result.iterations;
  }
  KrylovResult result = KrylovIteration<double, A>(a, options).run();
  result.iterations += iterations;
  return result;
}

}  // namespace lox
