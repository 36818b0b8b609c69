// SPDX-License-Identifier: MIT
#include "lox/linalg/krylov.hpp"

#include <cmath>
#include <limits>

namespace lox {

Index krylov_basis(Index k, double proof) {
  // A start or a probe must come to its end before a restart, for any matrix that fits a machine.
  KrylovSpace space;
  space.block = krylov_block;
  space.dimension = 1e6;
  const int probe = passes_for(space, proof);
  space.wanted = std::min(k, krylov_block);
  const int start = k <= krylov_block ? passes_for(space, proof) : 0;
  const bool by_probe = k > krylov_block || start > 2 * probe;
  const Index proving = by_probe ? k + krylov_block * (probe + 2) : krylov_block * (start + 2);
  return std::max({10 * krylov_block, 2 * k + 2 * krylov_block, proving});
}

KrylovOptions krylov_options(const SvdOptions& options) {
  KrylovOptions krylov;
  krylov.k = options.k;
  krylov.block = krylov_block;
  krylov.basis = krylov_basis(options.k, options.proof);
  krylov.max_iterations = static_cast<int>(std::max<Index>(300, 8 * options.k));
  krylov.tolerance = options.tolerance;
  krylov.delta_error = options.delta_error;
  krylov.norm_squared = options.norm_squared;
  krylov.proof = options.proof;
  krylov.wide = options.wide;
  krylov.every_k = options.every_k;
  krylov.key = options.key;
  return krylov;
}

KrylovJudge::KrylovJudge(const KrylovOptions& options, Index dimension, const Arithmetic& limits,
                         bool is_float)
    : options_(options),
      dimension_(static_cast<double>(dimension)),
      limits_(limits),
      is_float_(is_float),
      error_(options.k),
      prefixes_(std::max<Index>(options.k - 1, 0)) {}

bool KrylovJudge::is_due(Index columns) {
  if (!probing_ && 16 * (columns - seen_) < columns) return false;
  seen_ = columns;
  return true;
}

void KrylovJudge::restarted(const Eigen::VectorXd& sigma) {
  intact_ = false;
  seen_ = sigma.size();
  error_.restart(sigma);
  if (wants_every_k()) prefixes_.restart(sigma);
}

void KrylovJudge::probe_begins(const Eigen::VectorXd& sigma) {
  restarted(sigma);
  probing_ = true;
  ++probes_;
  origin_ = Origin::probe;
  passes_ = 0;
  intact_ = true;
}

/// Are there as many equal values as a block has columns, and room for another among the k largest? It may be
/// there, and no telling from here: a block sees no more copies of a value than it has columns.
bool KrylovJudge::is_crowded(const KrylovState& state) const {
  const Eigen::VectorXd& sigma = state.ritz.sigma;
  for (Index i = 0; i + options_.block < std::min(options_.k, sigma.size()); ++i) {
    if (sigma[i + options_.block - 1] > sigma[i] * (1 - 1e-3)) return true;
  }
  return false;
}

KrylovJudge::Verdict KrylovJudge::consider(const KrylovState& state) {
  error_.see(state.ritz);
  if (wants_every_k() && !probing_) prefixes_.see(state.ritz);
  missed_ = missing(state);
  if (beyond_float(state)) return Verdict::needs_wide;
  if (probing_ && found_more(state)) {
    probing_ = false;
    origin_ = Origin::none;
    missed_ = missing(state);
  }
  if (probing_) {
    const bool over = missed_.epsilon <= options_.proof && next_is_known(state);
    if (over) crowded_ = false;
    return over || state.last ? Verdict::proved : Verdict::go_on;
  }
  // A copy of a value may be missing well within the promise: only a probe tells.
  crowded_ = is_crowded(state) && missed_.epsilon > options_.tolerance;
  const bool proof_waits = crowded_ || missed_.epsilon > options_.proof;
  // What is not accurate when N is given up for a probe stays so: leave room for several probes.
  const bool good = accurate(state, strictness_ * options_.tolerance * (proof_waits ? 0.05 : 1));
  if (needs_double_) return Verdict::needs_wide;
  if (state.worst_lost > options_.tolerance) return Verdict::give_up;
  const bool enough = crowded_ || missed_.epsilon <= options_.proof || (good && !worth_more_passes(state));
  if (state.exhausted) origin_ = Origin::none;  // random columns go on, which prove nothing of those before
  return state.last || (good && enough) ? Verdict::measure : Verdict::go_on;
}

bool KrylovJudge::measured(const KrylovState& state, const std::vector<double>& sigma,
                           const Certificate& certificate) {
  certified_ =
      certificate.holds(options_.tolerance) && (state.complete || state.ritz.sigma.size() >= options_.k);
  if (!certified_) {
    strictness_ *= 0.3;
    return false;
  }
  found_ = sigma;  // the others are zero
  if (!sigma.empty()) found_.resize(static_cast<std::size_t>(options_.k), limits_.value * sigma.front());
  return !proved();
}

/// Is the error of Delta_k below what is asked, by its estimate and by what rounding mixes of k and k + 1?
bool KrylovJudge::is_settled(const KrylovState& state, Index k, double error) const {
  const Eigen::VectorXd& sigma = state.ritz.sigma;
  const double least = sigma[k - 1];
  const double gap = least - (sigma.size() > k ? sigma[k] : 0);
  const double mixed = 0.1 * limits_.product * sigma[0] * least / std::max(gap, 1e-300);
  return (state.complete || error <= options_.delta_error) && mixed <= options_.delta_error;
}

KrylovJudge::Standing KrylovJudge::standing(const KrylovState& state, Index k, const Residuals& residuals,
                                            bool settled) const {
  if (settled) return {};
  const Eigen::VectorXd& sigma = state.ritz.sigma;
  const bool tie = sigma[k - 1] - (sigma.size() > k ? sigma[k] : 0) < tie_gap * sigma[k - 1];
  return {false, state.complete || residuals.at_floor || (tie && residuals.worst <= 1e-6),
          is_float_ && residuals.at_floor && !tie, tie};
}

/// Are triplets k and k + 1 told apart by more than their residuals? A space that sees a block's width of
/// many near copies of a value hardly changes any more, as if it were done.
bool KrylovJudge::is_separated(const KrylovState& state, Index k) const {
  const Eigen::VectorXd& sigma = state.ritz.sigma;
  if (state.complete || sigma.size() <= k) return true;
  return sigma[k - 1] - sigma[k] >= 4 * std::hypot(state.residuals[k - 1], state.residuals[k]);
}

/// Do the last triplets have as many equal values as a block has columns? Another may be beyond, and no
/// iteration shows it. (Where one may be missing among the first k, a probe looks for it.)
bool KrylovJudge::may_have_twin(const KrylovState& state, Index k) const {
  if (state.complete || k < options_.block || k < options_.k || missed_.epsilon <= options_.tolerance)
    return false;
  const Eigen::VectorXd& sigma = state.ritz.sigma;
  return sigma[k - 1] > sigma[k - options_.block] * (1 - tie_gap);
}

/// The same where each k' is asked for.
KrylovJudge::Standing KrylovJudge::prefix_standing(const KrylovState& state, Index k,
                                                   const Residuals& residuals, double error) const {
  if (may_have_twin(state, k)) return {false, true, false, true};
  if (state.exhausted) error = 0;  // its triplets are exact, at the first look as well
  return standing(state, k, residuals, is_separated(state, k) && is_settled(state, k, error));
}

void KrylovJudge::name_unsettled(const KrylovState& state, Index k, const Standing& standing) {
  if (!wants_every_k() || standing.settled) return;
  const Eigen::VectorXd& sigma = state.ritz.sigma;
  const double gap = 1 - (sigma.size() > k ? sigma[k] : 0) / sigma[k - 1];
  const bool finished = standing.enough && !standing.needs_double;
  unsettled_.push_back({k, gap,
                        !finished      ? Unsettled::Why::unfinished
                        : standing.tie ? Unsettled::Why::tie
                                       : Unsettled::Why::rounding});
}

/// Are the k largest triplets good enough, as far as one can tell without a product?
bool KrylovJudge::accurate(const KrylovState& state, double tolerance) {
  const Eigen::VectorXd& sigma = state.ritz.sigma;
  const Index k = std::min(options_.k, sigma.size());
  settled_ = false;
  unsettled_.clear();
  if (k < options_.k && !state.complete) return false;
  if (k == 0) return settled_ = true;
  const bool asked = options_.delta_error > 0;
  Residuals residuals;
  Standing all;  // of those below k
  for (Index i = 0; i < k && sigma[i] > limits_.value * sigma[0]; ++i) {
    residuals.worst = std::max(residuals.worst, state.residuals[i] / sigma[i]);
    residuals.at_floor = residuals.at_floor && state.residuals[i] <= 10 * limits_.product * sigma[0];
    if (!wants_every_k() || !asked || i + 1 == k) continue;
    const Standing prefix = prefix_standing(state, i + 1, residuals, prefixes_.value(i + 1));
    name_unsettled(state, i + 1, prefix);
    all.enough = all.enough && (prefix.settled || prefix.enough);
    all.needs_double = all.needs_double || prefix.needs_double;
  }
  if (residuals.worst > tolerance) {
    // Of a complete space the residuals are better than their estimates.
    Standing last{false, false, false, false};
    if (state.complete) last = prefix_standing(state, k, residuals, error_.value());
    if (asked) name_unsettled(state, k, last);
    settled_ = wants_every_k() && last.settled;
    return false;
  }
  Standing last;
  if (asked && k == options_.k && sigma[k - 1] > limits_.value * sigma[0]) {
    last = standing(state, k, residuals, is_settled(state, k, error_.value()));
    settled_ = last.settled;
    if (wants_every_k()) {
      const Standing strict = prefix_standing(state, k, residuals, error_.value());
      name_unsettled(state, k, strict);
      settled_ = strict.settled;
      if (options_.every_k == EveryK::settled) last = strict;
    }
  } else {
    settled_ = true;
  }
  const bool all_count = options_.every_k == EveryK::settled;
  needs_double_ = last.needs_double || (all_count && all.needs_double);
  return last.enough && (!all_count || all.enough);
}

/// Are singular values so different that float loses the smaller ones?
bool KrylovJudge::beyond_float(const KrylovState& state) const {
  constexpr double widest = 100;
  const Eigen::VectorXd& sigma = state.ritz.sigma;
  if (!is_float_ || sigma.size() == 0 || sigma[0] == 0) return false;
  if (sigma.size() < options_.k) return state.complete;
  const Index last = options_.k - 1;
  const double residual = state.residuals[last];
  return widest * sigma[last] < sigma[0] &&
         (state.complete || residual <= 0.5 * sigma[last] || residual <= limits_.direction * sigma[0]);
}

/// Did the probe move any of the values? A copy of a larger one moves those below it, not always the last.
bool KrylovJudge::found_more(const KrylovState& state) const {
  for (std::size_t i = 0; i < found_.size(); ++i) {
    if (state.ritz.sigma[static_cast<Index>(i)] > found_[i] * (1 + options_.tolerance)) return true;
  }
  return false;
}

bool KrylovJudge::next_is_known(const KrylovState& state) const {
  const Index k = options_.k;
  return !crowded_ || state.exhausted || state.complete || state.ritz.sigma.size() <= k ||
         state.ritz.sigma[k] + state.residuals[k] <= found_.back() * (1 + 2 * options_.tolerance);
}

/// Each statement that depends on the random numbers has its share of the probability: the start, and every
/// probe.
double KrylovJudge::share() const {
  return miss_probability * std::ldexp(1.0, -1 - probes_);
}

/// What is left of |A|_F^2 beside squares of singular values, at most: the difference is known only so well.
double KrylovJudge::norm_left(double squares) const {
  const double error = std::max(100 * limits_.product, 1e-12);
  return std::max(options_.norm_squared - squares, 0.0) + error * options_.norm_squared;
}

KrylovSpace KrylovJudge::space(const SmallSvd& ritz) const {
  KrylovSpace space;
  space.block = options_.block;
  space.wanted = origin_ == Origin::start ? options_.k : 1;
  space.passes = passes_;
  space.dimension = dimension_;
  space.ahead = intact_;  // a restart keeps what B knows
  const Index k = std::min(options_.k, ritz.sigma.size());
  if (options_.norm_squared > 0 && k > 0 && ritz.sigma[0] > 0) {
    const double least = std::max(ritz.sigma[k - 1], limits_.value * ritz.sigma[0]);
    space.tail = norm_left(ritz.sigma.head(k).squaredNorm()) / (least * least) + static_cast<double>(k);
  }
  return space;
}

/// How large a singular value can be that is not among the first k.
Missed KrylovJudge::missing(const KrylovState& state) const {
  const Eigen::VectorXd& sigma = state.ritz.sigma;
  if (state.complete) return {0, 0};
  Missed best{std::numeric_limits<double>::infinity(), 1};
  if (sigma.size() < options_.k || sigma[0] == 0) return best;
  const double least = std::max(sigma[options_.k - 1], limits_.value * sigma[0]);
  if (options_.norm_squared > 0) {  // s_i(A)^2 <= s_i(U^T A)^2 + |A|^2 - |U^T A|^2
    best = {std::sqrt(1 + norm_left(sigma.squaredNorm()) / (least * least)) - 1, 0};
    if (best.epsilon <= options_.proof) return best;
  }
  if (origin_ == Origin::none) return best;
  const KrylovSpace found_in = space(state.ritz);
  const bool exact = state.exhausted && intact_ &&
                     exhausted_probability(found_in, limits_.direction * sigma[0] / least) <= share();
  double epsilon = exact ? 0 : missed_epsilon(found_in, share());
  if (origin_ == Origin::probe) {  // what the triplets found leave of A is known up to their own errors
    epsilon = (1 + epsilon) * (1 + options_.tolerance) + state.lost / least - 1;
  }
  return epsilon < best.epsilon ? Missed{epsilon, miss_probability} : best;
}

/// Do a few more passes prove as much as a probe, for less?
bool KrylovJudge::worth_more_passes(const KrylovState& state) const {
  if (origin_ != Origin::start || !intact_ || !state.has_room || state.exhausted) return false;
  KrylovSpace probe;
  probe.block = options_.block;
  probe.dimension = dimension_;
  KrylovSpace start = probe;
  start.wanted = options_.k;
  return passes_for(start, options_.proof) - passes_ <= passes_for(probe, options_.proof);
}

}  // namespace lox
