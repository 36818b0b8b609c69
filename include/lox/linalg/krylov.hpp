// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/stop.hpp"
#include "lox/linalg/krylov_basis.hpp"
#include "lox/linalg/svd.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace lox {

struct KrylovOptions {
  Index k = 6;
  Index block = 8;   ///< columns multiplied at once
  Index basis = 80;  ///< columns kept before a restart; at least 2 * block and k + 2 * block
  double tolerance = 1e-4;
  double delta_error = 0;   ///< bound on the estimated |error of Delta_k|_F to reach too; 0: none asked
  double norm_squared = 0;  ///< |A|_F^2; 0: unknown
  double proof = 0.5;       ///< bound on Missed::epsilon
  bool wide = false;        ///< in double from the start
  EveryK every_k = EveryK::ignored;
  int max_iterations = 100;
  std::uint64_t key = 0;  ///< of the random columns
};

/// The method's sizes for what is asked of an SVD.
KrylovOptions krylov_options(const SvdOptions& options);

/// Singular triplets, largest first, fewer than k if the rank is smaller. u and v hold this rank's rows.
struct KrylovResult {
  Small u;
  std::vector<double> sigma;
  Small v;
  Certificate certificate;           ///< measured
  std::vector<double> residuals;     ///< its parts
  std::vector<Unsettled> unsettled;  ///< where EveryK asks
  Missed missed;
  int iterations = 0;       ///< each is one product with A and one with A^T
  bool converged = false;   ///< certified, and proved to be the largest
  bool settled = false;     ///< the error of Delta_k is below delta_error, by its estimate
  bool needs_wide = false;  ///< float cannot carry what is asked for: nothing else here counts
};

/// Infinite if any is NaN, which std::max and maxCoeff() may overlook.
inline double largest_of(const Small& numbers) {
  return numbers.hasNaN() ? std::numeric_limits<double>::infinity() : numbers.maxCoeff();
}

/// The certificate by its definition: a pass over A for each `krylov_block` triplets, so that it takes no
/// more memory than the method. `residuals`: of every triplet, if asked for. Collective.
template <class Scalar, KrylovOperator A>
Certificate measure_certificate(A& a, const Small& u, const std::vector<double>& sigma, const Small& v,
                                std::vector<double>* residuals = nullptr) {
  using Block = PanelOf<Scalar>;
  const auto k = static_cast<Index>(sigma.size());
  Certificate certificate;
  if (residuals != nullptr) residuals->assign(sigma.size(), 0);
  for (Index first = 0; first < k; first += krylov_block) {
    const Index count = std::min(krylov_block, k - first);
    const Eigen::Map<const Eigen::VectorXd> s(sigma.data() + first, count);
    const Block left = u.middleCols(first, count).template cast<Scalar>();
    const Block right = v.middleCols(first, count).template cast<Scalar>();
    const auto measure = [&](Side side, Block& image, const Block& vectors) {
      image -= vectors * s.template cast<Scalar>().asDiagonal();
      Eigen::VectorXd squares = image.template cast<double>().colwise().squaredNorm();
      a.sum(side, std::span(squares.data(), static_cast<std::size_t>(count)));
      const Small lengths = squares.cwiseSqrt().cwiseQuotient(s);
      certificate.residual = std::max(certificate.residual, largest_of(lengths));
      for (Index i = 0; residuals != nullptr && i < count; ++i) {
        double& known = (*residuals)[static_cast<std::size_t>(first + i)];
        known = std::max(known, lengths(i));
      }
    };
    Block image;
    Block back;
    a.apply_both(right, image, left, back);
    measure(Side::left, image, left);
    measure(Side::right, back, right);
  }
  if (k == 0) return certificate;
  for (const auto& [side, vectors] : {std::pair(Side::left, &u), std::pair(Side::right, &v)}) {
    const Small products = gram<A, double>(a, side, *vectors);
    certificate.orthogonality =
        std::max(certificate.orthogonality, largest_of((products - Small::Identity(k, k)).cwiseAbs()));
  }
  return certificate;
}

/// The state of the iteration, as the triplets of [B S^T] show it.
struct KrylovState {
  SmallSvd ritz;
  Eigen::VectorXd residuals;  ///< of the first k + 1, estimated
  bool exhausted = false;     ///< the space is mapped into itself
  bool complete = false;      ///< nothing but rounding is outside the space
  bool last = false;          ///< no further iteration is allowed
  double lost = 0;            ///< length of what A^T U_k lacks since an N was given up
  double worst_lost = 0;      ///< the same of a triplet, over its singular value: no iteration takes it away
  bool has_room = true;       ///< for another block without a restart
};

/// Decides when the iteration ends: when the k largest triplets are accurate, and no larger one can be
/// missing (docs/numerics.md). Knows no bases.
class KrylovJudge {
 public:
  enum class Verdict { go_on, measure, proved, needs_wide, give_up };
  /// `dimension`: min(m, n). `is_float`: there is a wider arithmetic.
  KrylovJudge(const KrylovOptions& options, Index dimension, const Arithmetic& limits, bool is_float);

  void count_pass() { passes_ += intact_ ? 1 : 0; }
  /// Is it time to consider the state, now that U has so many columns? The small problem of a large basis
  /// costs more than a pass.
  bool is_due(Index columns);
  Verdict consider(const KrylovState& state);
  /// measure: the triplets' certificate. Are they to be kept for a probe? Else the iteration goes on, or they
  /// are the result if `proved()`.
  bool measured(const KrylovState& state, const std::vector<double>& sigma, const Certificate& certificate);
  bool proved() const { return certified_ && !crowded_ && missed_.epsilon <= options_.proof; }
  /// A restart that keeps N, or one at random columns that begins a probe.
  void restarted(const Eigen::VectorXd& sigma);
  void probe_begins(const Eigen::VectorXd& sigma);

  const Missed& missed() const { return missed_; }
  bool settled() const { return settled_; }
  const std::vector<Unsettled>& unsettled() const { return unsettled_; }

 private:
  /// What the random columns of the space prove: a start of nothing but random columns finds the k largest
  /// values; random columns beside triplets that were found before find the largest of what these leave.
  enum class Origin { start, probe, none };

  /// How Delta_k' stands for one k': `enough` if no more is to be had for it.
  struct Standing {
    bool settled = true;
    bool enough = true;
    bool needs_double = false;
    bool tie = false;
  };
  struct Residuals {
    double worst = 0;      ///< relative to the triplet's own singular value
    bool at_floor = true;  ///< the arithmetic has no more to give
  };
  bool wants_every_k() const { return options_.every_k != EveryK::ignored; }
  bool is_settled(const KrylovState& state, Index k, double error) const;
  bool is_separated(const KrylovState& state, Index k) const;
  bool may_have_twin(const KrylovState& state, Index k) const;
  Standing standing(const KrylovState& state, Index k, const Residuals& residuals, bool settled) const;
  Standing prefix_standing(const KrylovState& state, Index k, const Residuals& residuals, double error) const;
  void name_unsettled(const KrylovState& state, Index k, const Standing& standing);
  bool accurate(const KrylovState& state, double tolerance);
  bool beyond_float(const KrylovState& state) const;
  bool found_more(const KrylovState& state) const;
  bool next_is_known(const KrylovState& state) const;
  bool is_crowded(const KrylovState& state) const;
  bool worth_more_passes(const KrylovState& state) const;
  Missed missing(const KrylovState& state) const;
  KrylovSpace space(const SmallSvd& ritz) const;
  double share() const;
  double norm_left(double squares) const;

  const KrylovOptions& options_;
  double dimension_;
  Arithmetic limits_;
  bool is_float_;
  ErrorOfDelta error_;
  ErrorsOfPrefixes prefixes_;
  std::vector<Unsettled> unsettled_;
  Missed missed_;
  Index seen_ = 0;         // columns of U when it was last considered
  double strictness_ = 1;  // of the estimates, where measuring showed them to be too good
  Origin origin_ = Origin::start;
  int probes_ = 0;      // begun
  int passes_ = 0;      // since the origin, until the first restart after it
  bool intact_ = true;  // no restart since then
  bool settled_ = false;
  bool needs_double_ = false;  // float's rounding alone keeps Delta_k from being settled
  bool certified_ = false;
  bool probing_ = false;
  bool crowded_ = false;  // a copy of a value may be missing: a probe goes on until the next one is known
  std::vector<double> found_;  // values that the probe is to find nothing beside
};

/// In one arithmetic. Throws Stopped if the operator says so. Collective over the operator's ranks.
template <class Scalar, KrylovOperator A>
KrylovResult krylov_svd_in(A& a, const KrylovOptions& options) {
  using Verdict = KrylovJudge::Verdict;
  KrylovBasis<Scalar, A> basis(a, options.block, options.basis, options.tolerance, options.key);
  KrylovJudge judge(options, std::min(a.rows(), a.cols()), arithmetic<Scalar>, std::same_as<Scalar, float>);
  KrylovResult result;
  const auto finish = [&](bool converged) {
    result.missed = judge.missed();
    result.converged = converged;
    return std::move(result);
  };
  for (;;) {
    if (a.should_stop()) throw Stopped();
    basis.advance();
    judge.count_pass();
    ++result.iterations;
    KrylovState state;
    state.complete = basis.complete();
    state.exhausted = basis.exhausted();
    state.last = state.complete || result.iterations >= options.max_iterations;
    state.has_room = basis.has_room();
    if (state.last || state.exhausted || !state.has_room || judge.is_due(basis.rows())) {
      state.ritz = small_svd(basis.projected());
      state.residuals.resize(std::min(options.k + 1, state.ritz.sigma.size()));
      for (Index i = 0; i < state.residuals.size(); ++i) state.residuals[i] = basis.residual(state.ritz, i);
      if (state.ritz.sigma.size() > 0) basis.note_largest(state.ritz.sigma[0]);
      state.lost = basis.lost(options.k);
      for (Index i = 0; i < std::min(options.k, state.ritz.sigma.size()); ++i) {
        const double least = arithmetic<Scalar>.value * state.ritz.sigma[0];
        state.worst_lost = std::max(
            state.worst_lost, basis.lost(state.ritz, i) / std::max({state.ritz.sigma[i], least, 1e-300}));
      }
      const Verdict verdict = judge.consider(state);
      if (verdict == Verdict::needs_wide) {
        result.needs_wide = true;
        return finish(false);
      }
      if (verdict == Verdict::give_up) return finish(false);
      if (verdict == Verdict::proved) return finish(judge.proved());
      if (verdict == Verdict::measure) {
        Index found = std::min(options.k, state.ritz.sigma.size());
        while (found > 0 && state.ritz.sigma[found - 1] <= arithmetic<Scalar>.value * state.ritz.sigma[0])
          --found;
        result.u = basis.left_vectors(state.ritz, found);
        result.v = basis.right_vectors(state.ritz, found);
        result.sigma.assign(state.ritz.sigma.data(), state.ritz.sigma.data() + found);
        result.certificate =
            measure_certificate<Scalar>(a, result.u, result.sigma, result.v, &result.residuals);
        const bool probe = judge.measured(state, result.sigma, result.certificate);
        result.settled = judge.settled();
        result.unsettled = judge.unsettled();
        if (state.last || judge.proved()) return finish(judge.proved());
        if (probe) judge.probe_begins(basis.restart_at_random(options.k));
      }
    }
    if (!basis.has_room()) {
      const Index most = std::max(options.basis / 2, options.k + options.block);
      judge.restarted(basis.restart(std::min({basis.rows(), basis.cols(), most})));
    }
  }
}

/// The k largest singular triplets of A, in float, or in double where float cannot carry what is asked for.
/// Collective over the operator's ranks.
template <KrylovOperator A>
KrylovResult krylov_svd(A& a, const KrylovOptions& options) {
  int iterations = 0;
  if (!options.wide && options.tolerance >= 1e-6) {
    KrylovResult result = krylov_svd_in<float>(a, options);
    if (!result.needs_wide) return result;
    iterations = result.iterations;
  }
  KrylovResult result = krylov_svd_in<double>(a, options);
  result.iterations += iterations;
  return result;
}

}  // namespace lox
