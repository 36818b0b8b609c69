// SPDX-License-Identifier: MIT
// The solver as its adversary sees it: all that knows its interface.
#pragma once
#include "lox/linalg/krylov.hpp"
#include "lox/linalg/local_operator.hpp"
#include "lox/linalg/svd.hpp"

namespace lox::adversary {

struct Ask {
  Index k = 1;
  double tolerance = 1e-4;
  double delta_error = 0;
  bool wide = false;
};

struct Answer {
  Small u;
  Eigen::VectorXd sigma;
  Small v;
  double claimed = 0;     ///< certificate
  bool converged = true;  ///< does the solver stand by it?
};

/// Does Ask::wide make a difference?
constexpr bool can_be_wide = true;

inline SvdOptions options_of(const Ask& ask) {
  SvdOptions options;
  options.k = ask.k;
  options.tolerance = ask.tolerance;
  options.delta_error = ask.delta_error;
  options.wide = ask.wide;
  return options;
}

template <class U>
Answer answer_of(const U& u, const std::vector<double>& sigma, const U& v, double claimed, bool converged) {
  const Eigen::Map<const Eigen::VectorXd> values(sigma.data(), static_cast<Index>(sigma.size()));
  return {u.template cast<double>(), values, v.template cast<double>(), claimed, converged};
}

/// As the program asks.
inline Answer ask_truncated(const RowMajorView& a, const Ask& ask) {
  SvdOptions options = options_of(ask);
  options.norm_squared = a.cast<double>().squaredNorm();
  const SvdResult r = truncated_svd(a, options);
  return answer_of(r.factors.u, r.factors.sigma, r.factors.v, r.certificate.residual,
                   r.certificate.holds(ask.tolerance) && r.missed.epsilon <= options_of(ask).proof);
}

/// The Krylov method also where the exact one would be chosen.
inline Answer ask_krylov(const RowMajorView& a, const Ask& ask) {
  LocalOperator op(a);
  const KrylovResult r = krylov_svd(op, krylov_options(options_of(ask)));
  return answer_of(r.u, r.sigma, r.v, r.certificate.residual, r.converged);
}

/// What the solver starts from for a known key, `rows` x `columns`.
inline Small known_start(Index rows, Index columns, std::uint64_t key) {
  const LocalOperator op(RowMajorView(nullptr, 0, rows));
  return op.random_panel(columns, key).cast<double>();
}

}  // namespace lox::adversary
