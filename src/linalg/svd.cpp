// SPDX-License-Identifier: MIT
#include "lox/linalg/svd.hpp"

#include "lox/linalg/krylov.hpp"
#include "lox/linalg/local_operator.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lox {
namespace {

/// What is left of a matrix when triplets are taken out of it: (I - U U^T) A (I - V V^T), a slice at a time
/// and in double. Vectors of the shorter side are called near ones here, those of the longer side far ones.
class Remainder {
 public:
  explicit Remainder(const RowMajorView& a)
      : a_(a), tall_(a.rows() >= a.cols()), near_(least(), 0), far_(most(), 0), images_(least(), 0) {}
  Index least() const { return std::min(a_.rows(), a_.cols()); }
  Index most() const { return std::max(a_.rows(), a_.cols()); }
  bool tall() const { return tall_; }
  const Small& near() const { return near_; }
  const Small& far() const { return far_; }

  /// The Gram matrix of the shorter side; its lower half.
  Small gram() const {
    Small sum = Small::Zero(least(), least());
    each_slice([&](Index, const Small& slice) { sum.selfadjointView<Eigen::Lower>().rankUpdate(slice); });
    return sum;
  }
  /// Far vectors that near ones are mapped to.
  Small far_image(const Small& vectors) const {
    Small result(most(), vectors.cols());
    each_slice([&](Index first, const Small& slice) {
      result.middleRows(first, slice.cols()).noalias() = slice.transpose() * vectors;
    });
    return result;
  }
  /// Keeps more triplets; their vectors are orthonormal, and orthogonal to those before.
  void keep(const Small& near, const Small& far) {
    append(near_, near);
    append(far_, far);
  }
  /// Takes out what was kept since the last time: a pass over the matrix.
  void take_out() {
    const Index fresh = near_.cols() - taken();
    Small images = Small::Zero(least(), fresh);
    each_slice([&](Index first, const Small& slice) {
      images.noalias() += slice * far_.middleRows(first, slice.cols()).rightCols(fresh);
    });
    images -= (near_.rightCols(fresh) * (near_.rightCols(fresh).transpose() * images)).eval();
    append(images_, images);
  }

 private:
  static void append(Small& to, const Small& columns) {
    to.conservativeResize(Eigen::NoChange, to.cols() + columns.cols());
    to.rightCols(columns.cols()) = columns;
  }
  Index taken() const { return images_.cols(); }
  /// Calls work(first, slice): columns of `slice` are those of the shorter side, from `first` on.
  template <class Work>
  void each_slice(Work work) const {
    constexpr Index at_once = 512;
    Small slice;
    for (Index first = 0; first < most(); first += at_once) {
      const Index count = std::min(at_once, most() - first);
      if (tall_) {
        slice = a_.middleRows(first, count).transpose().cast<double>();
      } else {
        slice = a_.middleCols(first, count).cast<double>();
      }
      if (taken() > 0) {
        const Small inside = near_.leftCols(taken()).transpose() * slice;
        slice.noalias() -= near_.leftCols(taken()) * inside;
        slice.noalias() -= images_ * far_.middleRows(first, count).leftCols(taken()).transpose();
      }
      work(first, slice);
    }
  }
  RowMajorView a_;
  bool tall_;
  Small near_;
  Small far_;
  Small images_;  // near vectors that `far_` is mapped to, without their part along `near_`
};

}  // namespace

std::string_view method_name(Method method) {
  switch (method) {
    case Method::krylov:
      return "krylov";
    case Method::exact:
      return "exact";
    case Method::full:
      return "full";
    case Method::lora:
      return "lora";
  }
  return "?";
}

void round_factors(Factors& factors, bool wide) {
  const auto round = [wide](double value) {
    const auto high = static_cast<double>(static_cast<float>(value));
    return wide ? high + static_cast<double>(static_cast<float>(value - high)) : high;
  };
  factors.u = factors.u.unaryExpr(round);
  factors.v = factors.v.unaryExpr(round);
  if (wide) return;  // a double less what float holds of it is a double
  for (double& sigma : factors.sigma) sigma = round(sigma);
}

double expected_iterations(Index k) {
  const auto wanted = static_cast<double>(k);
  return k <= 8 ? 3 + 0.8 * wanted : 10.5 * std::sqrt(wanted);
}

Effort krylov_effort(double rows, double cols, Index k) {
  constexpr double product_flops_per_second = 9.8e10;  // thin float products
  constexpr double panel_flops_per_second = 1.2e10;    // all else: panels against the basis, small problems
  const auto block = static_cast<double>(krylov_block);
  const double iterations = expected_iterations(k);
  const double flops = 2 * rows * cols * (2 * block * iterations + 2 * static_cast<double>(k));
  // Beyond a small basis, whose cost goes with the entries in plan/cost.
  const double columns = std::max(0.0, 1.5 * static_cast<double>(k) - 10);
  const double panels = iterations * 8 * block * (rows + cols) * columns;
  return {flops + panels, flops / product_flops_per_second + panels / panel_flops_per_second};
}

Effort exact_effort(double rows, double cols, Index k) {
  constexpr double flops_per_second = 2e10;  // double products and a tridiagonal reduction
  const double least = std::min(rows, cols);
  const double flops =
      rows * cols * least + 4 * least * least * least / 3 + 4 * rows * cols * static_cast<double>(k);
  return {flops, flops / flops_per_second};
}

bool prefers_exact(Index rows, Index cols, Index k) {
  const Index least = std::min(rows, cols);
  const auto m = static_cast<double>(rows);
  const auto n = static_cast<double>(cols);
  return least <= 128 || least <= 2 * krylov_basis(k) / 3 ||
         exact_effort(m, n, k).seconds < krylov_effort(m, n, k).seconds;
}

Factors exact_svd(const RowMajorView& delta, Index k, double* next) {
  // A Gram matrix in double knows singular values to 1e-16 s_1^2 / s_i: those below 1e-3 s_1 wait until the
  // larger ones have been taken out.
  constexpr double range = 1e-3;
  Remainder rest(delta);
  std::vector<double> sigma;
  Index level_count = 0;  // triplets of the last level
  const Index wanted = std::min({k, delta.rows(), delta.cols()});
  while (static_cast<Index>(sigma.size()) < wanted) {
    const Index missing = wanted - static_cast<Index>(sigma.size());
    if (!sigma.empty()) rest.take_out();
    const TopEigen eigen = top_eigen(rest.gram(), missing);
    const double level = std::sqrt(std::max(eigen.values[0], 0.0));
    if (level == 0 || (!sigma.empty() && level <= arithmetic<double>.value * sigma[0])) break;
    Index& count = level_count;
    count = 0;
    while (count < missing && eigen.values[count] > range * range * eigen.values[0]) ++count;
    Small near = eigen.vectors.leftCols(count);
    if (!sigma.empty()) {  // orthogonal to those before but for rounding, which their values make visible
      near -= rest.near() * (rest.near().transpose() * near);
      near.colwise().normalize();
    }
    Small far = rest.far_image(near);
    if (!sigma.empty()) far -= rest.far() * (rest.far().transpose() * far);
    for (Index i = 0; i < count; ++i) {
      sigma.push_back(far.col(i).norm());
      far.col(i) /= sigma.back();
    }
    rest.keep(near, far);
  }
  if (next != nullptr) {
    const bool is_there = static_cast<Index>(sigma.size()) == wanted && level_count < rest.least();
    *next =
        is_there ? std::sqrt(std::max(top_eigen(rest.gram(), level_count + 1).values[level_count], 0.0)) : 0;
  }
  // The images' lengths are better than the eigenvalues, and may be in another order.
  std::vector<Index> order(sigma.size());
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(), [&](Index x, Index y) {
    return sigma[static_cast<std::size_t>(x)] > sigma[static_cast<std::size_t>(y)];
  });
  const auto found = static_cast<Index>(sigma.size());
  Factors factors{Small(delta.rows(), found), {}, Small(delta.cols(), found)};
  for (Index i = 0; i < found; ++i) {
    const Index from = order[static_cast<std::size_t>(i)];
    const double s = sigma[static_cast<std::size_t>(from)];
    factors.sigma.push_back(s);
    (rest.tall() ? factors.v : factors.u).col(i) = rest.near().col(from);
    (rest.tall() ? factors.u : factors.v).col(i) = rest.far().col(from);
  }
  return factors;
}

SvdResult truncated_svd(const RowMajorView& delta, const SvdOptions& options) {
  LocalOperator op(delta);
  SvdResult result;
  if (options.method == Method::krylov && !prefers_exact(delta.rows(), delta.cols(), options.k)) {
    KrylovResult found = krylov_svd(op, krylov_options(options));
    result.iterations = found.iterations;
    if (found.converged) {
      result.factors = {std::move(found.u), std::move(found.sigma), std::move(found.v)};
      result.certificate = found.certificate;
      result.missed = found.missed;
      result.settled = found.settled;
      result.residuals = std::move(found.residuals);
      result.unsettled = std::move(found.unsettled);
      return result;
    }
    if (!options.fall_back) {
      result.failed = true;
      return result;
    }
  }
  result.method = Method::exact;
  double next = 0;
  const bool every = options.every_k != EveryK::ignored;
  result.factors = exact_svd(delta, options.k, every ? &next : nullptr);
  result.certificate = measure_certificate<double>(op, result.factors.u, result.factors.sigma,
                                                   result.factors.v, &result.residuals);
  if (every) {
    result.unsettled =
        unsettled_by_residuals(result.factors.sigma, next, result.residuals, options.delta_error);
    result.settled = result.unsettled.empty() || result.unsettled.back().k != options.k;
  }
  return result;
}

}  // namespace lox
