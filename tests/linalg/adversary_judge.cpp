// SPDX-License-Identifier: MIT
#include "linalg/adversary_judge.hpp"

#include <cmath>
#include <stdexcept>

#include <Eigen/SVD>
#include <fmt/format.h>

extern "C" void dgesdd_(const char* jobz, const int* m, const int* n, double* a, const int* lda, double* s,
                        double* u, const int* ldu, double* vt, const int* ldvt, double* work,
                        const int* lwork, int* iwork, int* info);

namespace lox::adversary {
namespace {

double defect(const Small& x) {
  if (x.cols() == 0) return 0;
  return (x.transpose() * x - Small::Identity(x.cols(), x.cols())).cwiseAbs().maxCoeff();
}

/// 1. The values, and how many.
void judge_values(const Reference& r, const Ask& ask, const Answer& got, Faults& faults) {
  const double zero = nothing * r.at(0);
  const Index most = std::min(ask.k, r.sigma.size());
  Index least = 0;  // values twice as large as what may be called zero are surely none
  while (least < most && r.sigma[least] > 2 * zero) ++least;
  const Index count = got.sigma.size();
  if (count < least || count > most) {
    faults.push_back({"count", fmt::format("{} triplets, not {}", count, least)});
  }
  for (Index i = 0; i < std::min(count, most); ++i) {
    const double off = std::abs(got.sigma[i] - r.sigma[i]);
    const double allowed = 2 * ask.tolerance * r.sigma[i] + double_rounding * r.at(0);
    if (off <= allowed || (r.sigma[i] <= 2 * zero && got.sigma[i] <= 2 * zero)) continue;
    faults.push_back({"value", fmt::format("s_{} = {:.9g}, not {:.9g} (s_1 = {:.3g})", i + 1, got.sigma[i],
                                           r.sigma[i], r.at(0))});
    break;
  }
}

/// 2. The certificate by its definition: what it is, and what the solver says that it is.
void judge_certificate(const Small& a, const Reference& r, const Ask& ask, const Answer& got,
                       Faults& faults) {
  double worst = 0;
  double claimed = 0;  // how far beyond the claim
  for (Index i = 0; i < got.sigma.size(); ++i) {
    const double s = got.sigma[i];
    if (s <= 2 * nothing * r.at(0)) continue;
    const double left = (a * got.v.col(i) - s * got.u.col(i)).norm();
    const double right = (a.transpose() * got.u.col(i) - s * got.v.col(i)).norm();
    const double share = (std::max(left, right) - double_rounding * r.at(0)) / s;
    worst = std::max(worst, share);
    claimed = std::max(claimed, share - 1.5 * got.claimed - 1e-6);
  }
  if (worst > ask.tolerance) faults.push_back({"certificate", fmt::format("measured {:.3g}", worst)});
  if (claimed > 0) {
    faults.push_back({"claim", fmt::format("measured {:.3g}, claimed {:.3g}", worst, got.claimed)});
  }
}

/// 4. and 5. Delta_k itself where it is unique, and in any case what it leaves of A.
void judge_delta(const Small& a, const Reference& r, const Ask& ask, const Answer& got, Faults& faults) {
  const Small delta = got.u * got.sigma.asDiagonal() * got.v.transpose();
  double zeros = 0;  // those that may be called zero
  for (Index i = 0; i < ask.k; ++i)
    zeros = r.at(i) <= 2 * nothing * r.at(0) ? std::hypot(zeros, r.at(i)) : zeros;
  const double allowed = 4 * ask.delta_error + zeros;
  if (separated(r, ask.k)) {
    const double error = (delta - r.part(ask.k)).norm();
    if (error > allowed) {
      faults.push_back({"delta", fmt::format("|error of Delta_k| = {:.3g}, asked {:.3g}, s_k = {:.3g}", error,
                                             ask.delta_error, r.at(ask.k - 1))});
    }
  }
  const double rest = lapack_svd(a - delta, false).sigma[0];
  if (rest > 1.001 * r.at(ask.k) + allowed) {
    faults.push_back({"remainder", fmt::format("|A - Delta_k| = {:.6g}, s_k+1 = {:.6g}, asked {:.3g}", rest,
                                               r.at(ask.k), ask.delta_error)});
  }
}

}  // namespace

Reference lapack_svd(Small a, bool vectors) {
  const auto m = static_cast<int>(a.rows());
  const auto n = static_cast<int>(a.cols());
  const int least = std::min(m, n);
  Reference r{Small(vectors ? m : 1, least), Eigen::VectorXd(least), Small()};
  Small vt(vectors ? least : 1, n);
  const auto ldu = static_cast<int>(r.u.rows());
  const auto ldvt = static_cast<int>(vt.rows());
  std::vector<int> iwork(static_cast<std::size_t>(8 * least));
  std::vector<double> work(1);
  int info = 0;
  for (int lwork : {-1, 0}) {  // ask for the workspace, then do it
    if (lwork == 0) {
      lwork = static_cast<int>(work[0]);
      work.resize(static_cast<std::size_t>(lwork));
    }
    dgesdd_(vectors ? "S" : "N", &m, &n, a.data(), &m, r.sigma.data(), r.u.data(), &ldu, vt.data(), &ldvt,
            work.data(), &lwork, iwork.data(), &info);
    if (info != 0) throw std::runtime_error("the reference SVD failed");
  }
  r.v = vt.transpose();
  return r;
}

Reference jacobi_svd(const Small& a) {
  const Eigen::JacobiSVD<Small> jacobi(a, Eigen::ComputeThinU | Eigen::ComputeThinV);
  return {jacobi.matrixU(), jacobi.singularValues(), jacobi.matrixV()};
}

Reference reference_svd(const Small& a) {
  Reference r = lapack_svd(a, true);
  const double error = (r.part(r.sigma.size()) - a).norm();
  if (error <= 1e-13 * a.norm() && defect(r.u) <= 1e-12 && defect(r.v) <= 1e-12) return r;
  return jacobi_svd(a);
}

bool separated(const Reference& r, Index k) {
  return r.at(k - 1) > 1.01 * r.at(k);
}

double sensible_delta_error(const Reference& r, Index k, bool wide) {
  const double rounding = wide ? 1e-12 : 4e-7;
  const double last = r.at(k - 1);
  const double amplified = separated(r, k) ? last / (last - r.at(k)) : 1;
  const double size = r.sigma.head(std::min(k, r.sigma.size())).norm();
  return std::max(1e-4 * last, rounding * (size + amplified * r.at(0)));
}

Faults judge(const Small& a, const Reference& r, const Ask& ask, const Answer& got) {
  Faults faults;
  if (!got.u.allFinite() || !got.v.allFinite() || !got.sigma.allFinite()) return {{"not finite", ""}};
  if (got.u.cols() != got.sigma.size() || got.v.cols() != got.sigma.size() ||
      (got.sigma.size() > 0 && (got.u.rows() != a.rows() || got.v.rows() != a.cols()))) {
    return {{"sizes", ""}};
  }
  // Beside the smallest values that are not zero, double's rounding alone may be too large: an honest claim.
  const bool honest = got.sigma.size() > 0 && got.claimed > ask.tolerance &&
                      (got.claimed - ask.tolerance) * got.sigma.minCoeff() <= double_rounding * r.at(0);
  if (!got.converged && !honest) {
    faults.push_back({"disowned", fmt::format("claimed {:.3g}", got.claimed)});
  }
  judge_values(r, ask, got, faults);
  judge_certificate(a, r, ask, got, faults);
  const double angle = std::max(defect(got.u), defect(got.v));  // 3.
  if (angle > 1e-4) faults.push_back({"orthogonality", fmt::format("{:.3g}", angle)});
  if (got.sigma.size() > 0) judge_delta(a, r, ask, got, faults);
  return faults;
}

}  // namespace lox::adversary
