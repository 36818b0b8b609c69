// SPDX-License-Identifier: MIT
#include "lox/linalg/svd.hpp"

#include "lox/linalg/krylov.hpp"
#include "lox/linalg/local_operator.hpp"

#include <algorithm>
#include <cmath>

namespace lox {
namespace {

/// The Gram matrix of the smaller side, in double.
Small small_gram(const RowMajorView& a) {
  constexpr Index at_once = 512;
  const bool tall = a.rows() >= a.cols();
  const Index least = std::min(a.rows(), a.cols());
  const Index most = std::max(a.rows(), a.cols());
  Small gram = Small::Zero(least, least);
  Small slice;
  for (Index first = 0; first < most; first += at_once) {
    const Index count = std::min(at_once, most - first);
    if (tall) {
      slice = a.middleRows(first, count).transpose().cast<double>();
    } else {
      slice = a.middleCols(first, count).cast<double>();
    }
    gram.selfadjointView<Eigen::Lower>().rankUpdate(slice);
  }
  return gram;
}

}  // namespace

std::string_view method_name(Method method) {
  switch (method) {
    case Method::krylov:
      return "krylov";
    case Method::exact:
      return "exact";
    case Method::full:
      return "full";
  }
  return "?";
}

bool prefers_exact(Index rows, Index cols, Index k) {
  const Index least = std::min(rows, cols);
  return least <= 128 || least <= 2 * krylov_basis(k) / 3 || 4 * k >= least;
}

Factors exact_svd(const RowMajorView& delta, Index k) {
  const bool tall = delta.rows() >= delta.cols();
  const TopEigen eigen = top_eigen(small_gram(delta), std::min({k, delta.rows(), delta.cols()}));
  const double largest = std::sqrt(std::max(eigen.values[0], 0.0));
  Factors factors;
  for (const double value : eigen.values) {
    const double sigma = std::sqrt(std::max(value, 0.0));
    if (sigma <= float_rounding * largest || sigma == 0) break;
    factors.sigma.push_back(sigma);
  }
  const auto rank = static_cast<Index>(factors.sigma.size());
  const Panel near = eigen.vectors.leftCols(rank).cast<float>();
  const Panel far = tall ? Panel(delta * near) : Panel(delta.transpose() * near);
  Panel unit = far;
  for (Index i = 0; i < rank; ++i) {
    // The image's own length is the better singular value where the Gram matrix has lost digits.
    factors.sigma[static_cast<std::size_t>(i)] = far.col(i).cast<double>().norm();
    unit.col(i) /= static_cast<float>(factors.sigma[static_cast<std::size_t>(i)]);
  }
  factors.u = tall ? unit : near;
  factors.v = tall ? near : unit;
  return factors;
}

SvdResult truncated_svd(const RowMajorView& delta, const SvdOptions& options) {
  LocalOperator op(delta);
  SvdResult result;
  if (options.method == Method::krylov && !prefers_exact(delta.rows(), delta.cols(), options.k)) {
    KrylovResult found = krylov_svd(op, krylov_options(options));
    result.certificate = measure_certificate(op, found.u, found.sigma, found.v);
    result.iterations = found.iterations;
    result.factors = {std::move(found.u), std::move(found.sigma), std::move(found.v)};
    if (found.converged && result.certificate <= options.tolerance) return result;
  }
  result.method = Method::exact;
  result.factors = exact_svd(delta, options.k);
  result.certificate = measure_certificate(op, result.factors.u, result.factors.sigma, result.factors.v);
  return result;
}

}  // namespace lox
