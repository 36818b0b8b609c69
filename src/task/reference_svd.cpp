// SPDX-License-Identifier: MIT
#include "lox/task/reference_svd.hpp"

#include "lox/base/error.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

extern "C" {
void dsytrd_(const char* uplo, const int* n, double* a, const int* lda, double* d, double* e, double* tau,
             double* work, const int* lwork, int* info);
void dsterf_(const int* n, double* d, double* e, int* info);
void dstemr_(const char* jobz, const char* range, const int* n, double* d, double* e, const double* vl,
             const double* vu, const int* il, const int* iu, int* m, double* w, double* z, const int* ldz,
             const int* nzc, int* isuppz, int* tryrac, double* work, const int* lwork, int* iwork,
             const int* liwork, int* info);
void dormtr_(const char* side, const char* uplo, const char* trans, const int* m, const int* n,
             const double* a, const int* lda, const double* tau, double* c, const int* ldc, double* work,
             const int* lwork, int* info);
void dgeqrf_(const int* m, const int* n, double* a, const int* lda, double* tau, double* work,
             const int* lwork, int* info);
void dgesdd_(const char* jobz, const int* m, const int* n, double* a, const int* lda, double* s, double* u,
             const int* ldu, double* vt, const int* ldvt, double* work, const int* lwork, int* iwork,
             int* info);
}

namespace lox {
namespace {

/// Squaring loses digits: a Gram matrix knows s_k to about 1e-16 (s_1 / s_k)^2 of itself, and its vectors to
/// that over the relative gap, which may be 1e-3.
constexpr double gram_resolves = 1e-4;  // of s_1
constexpr double svd_resolves = 1e-12;  // of s_1
constexpr Index rows_at_once = 512;
/// OpenBLAS's SSE2 kernels of dsymv read up to four numbers past the end of LAPACK's workspace.
constexpr int spare = 4;

void check(int info, const char* routine, Index n) {
  if (info != 0) fail(ExitCode::internal, "LAPACK {} of order {}: info = {}", routine, n, info);
}

/// Calls routine(work, lwork) with as much workspace as it asks for.
template <class Routine>
void with_workspace(Routine routine) {
  double wanted = 0;
  routine(&wanted, -1);
  std::vector<double> work(static_cast<std::size_t>(wanted) + spare);
  routine(work.data(), static_cast<int>(wanted));
}

/// Delta^T Delta if it is tall, else Delta Delta^T.
Small gram_of(const RowMajorView& delta, bool tall) {
  const Index least = std::min(delta.rows(), delta.cols());
  const Index most = std::max(delta.rows(), delta.cols());
  Small gram = Small::Zero(least, least);
  Small piece;
  for (Index first = 0; first < most; first += rows_at_once) {
    const Index count = std::min(rows_at_once, most - first);
    if (tall) {
      piece = delta.middleRows(first, count).transpose().cast<double>();
    } else {
      piece = delta.middleCols(first, count).cast<double>();
    }
    gram.selfadjointView<Eigen::Lower>().rankUpdate(piece);
  }
  return gram;
}

/// A symmetric matrix brought to tridiagonal form once; eigenvalues first, then as many vectors as wanted.
class Tridiagonal {
 public:
  explicit Tridiagonal(Small symmetric)
      : n_(static_cast<int>(symmetric.rows())),
        reflectors_(std::move(symmetric)),
        diagonal_(n_),
        beside_(n_),
        tau_(n_) {
    int info = 0;
    with_workspace([&](double* work, int lwork) {
      dsytrd_("L", &n_, reflectors_.data(), &n_, diagonal_.data(), beside_.data(), tau_.data(), work, &lwork,
              &info);
      check(info, "dsytrd", n_);
    });
  }

  /// Largest first.
  Eigen::VectorXd values() const {
    Eigen::VectorXd values = diagonal_;
    Eigen::VectorXd beside = beside_;
    int info = 0;
    dsterf_(&n_, values.data(), beside.data(), &info);
    check(info, "dsterf", n_);
    return values.reverse();
  }

  /// Of the `count` largest, in that order.
  Small vectors(Index count) const {
    Eigen::VectorXd diagonal = diagonal_;
    Eigen::VectorXd beside = beside_;
    Eigen::VectorXd values(n_);
    const auto wanted = static_cast<int>(count);
    const int first = n_ - wanted + 1;
    Small vectors(n_, count);
    std::vector<int> support(2 * static_cast<std::size_t>(count));
    std::vector<int> iwork(10 * static_cast<std::size_t>(n_));
    const auto liwork = static_cast<int>(iwork.size());
    const double unused = 0;
    int found = 0;
    int precise = 1;
    int info = 0;
    std::vector<double> work(18 * static_cast<std::size_t>(n_));
    const auto lwork = static_cast<int>(work.size());
    dstemr_("V", "I", &n_, diagonal.data(), beside.data(), &unused, &unused, &first, &n_, &found,
            values.data(), vectors.data(), &n_, &wanted, support.data(), &precise, work.data(), &lwork,
            iwork.data(), &liwork, &info);
    check(info, "dstemr", n_);
    if (found != wanted) fail(ExitCode::internal, "LAPACK dstemr found {} of {} vectors", found, wanted);
    with_workspace([&](double* space, int size) {
      dormtr_("L", "L", "N", &n_, &wanted, reflectors_.data(), &n_, tau_.data(), vectors.data(), &n_, space,
              &size, &info);
      check(info, "dormtr", n_);
    });
    return vectors.rowwise().reverse();
  }

 private:
  int n_;
  Small reflectors_;
  Eigen::VectorXd diagonal_;
  Eigen::VectorXd beside_;
  Eigen::VectorXd tau_;
};

/// All singular values of `tall`, which is overwritten, and its right vectors: QR, then the SVD of R.
void svd_of(Small tall, Eigen::VectorXd& sigma, Small& right) {
  const auto m = static_cast<int>(tall.rows());
  const auto n = static_cast<int>(tall.cols());
  Eigen::VectorXd tau(n);
  int info = 0;
  with_workspace([&](double* work, int lwork) {
    dgeqrf_(&m, &n, tall.data(), &m, tau.data(), work, &lwork, &info);
    check(info, "dgeqrf", n);
  });
  Small r = tall.topRows(n).triangularView<Eigen::Upper>();
  tall.resize(0, 0);
  Small u(n, n);
  Small vt(n, n);
  sigma.resize(n);
  std::vector<int> iwork(8 * static_cast<std::size_t>(n));
  with_workspace([&](double* work, int lwork) {
    dgesdd_("S", &n, &n, r.data(), &n, sigma.data(), u.data(), &n, vt.data(), &n, work, &lwork, iwork.data(),
            &info);
    check(info, "dgesdd", n);
  });
  right = vt.transpose();
}

/// The other side's vectors: Delta times those of the smaller side, over their lengths, which are the better
/// singular values where a Gram matrix has lost digits.
Small far_vectors(const RowMajorView& delta, bool tall, const Small& near, Eigen::VectorXd& sigma) {
  Small far = Small::Zero(tall ? delta.rows() : delta.cols(), near.cols());
  for (Index first = 0; first < delta.rows(); first += rows_at_once) {
    const Index count = std::min(rows_at_once, delta.rows() - first);
    const Small rows = delta.middleRows(first, count).cast<double>();
    if (tall) {
      far.middleRows(first, count).noalias() = rows * near;
    } else {
      far.noalias() += rows.transpose() * near.middleRows(first, count);
    }
  }
  for (Index i = 0; i < far.cols(); ++i) {
    sigma[i] = far.col(i).norm();
    far.col(i) /= sigma[i];
  }
  return far;
}

}  // namespace

ReferenceSvd reference_svd(const RowMajorView& delta, Index k, const CountTriplets& count) {
  const bool tall = delta.rows() >= delta.cols();
  ReferenceSvd result;
  Small near;
  const auto wanted = [&] { return std::min(count(result.sigma), (result.sigma.array() > 0).count()); };
  {
    // 4096 x 4096, one thread: 5 s (dsyrk 1.2, dsytrd 3.9) against 25 s for dgeqrf and dgesdd, which are
    // taken only where the Gram matrix does not resolve s_k.
    const Tridiagonal gram(gram_of(delta, tall));
    result.sigma = gram.values().cwiseMax(0).cwiseSqrt();
    if (result.sigma[k - 1] > gram_resolves * result.sigma[0]) near = gram.vectors(wanted());
  }
  if (near.size() == 0) {
    Small tall_delta = delta.cast<double>();
    if (!tall) tall_delta.transposeInPlace();
    svd_of(std::move(tall_delta), result.sigma, near);
    const double least = svd_resolves * result.sigma[0];
    result.sigma = (result.sigma.array() > least).select(result.sigma, 0.0);
    near = near.leftCols(wanted()).eval();
  }
  Small far = far_vectors(delta, tall, near, result.sigma);
  result.u = tall ? far : near;
  result.v = tall ? std::move(near) : std::move(far);
  return result;
}

ReferenceEigen reference_eigen(Small symmetric, Index count) {
  const Tridiagonal tridiagonal(std::move(symmetric));
  return {tridiagonal.values(), count > 0 ? tridiagonal.vectors(count) : Small()};
}

}  // namespace lox
