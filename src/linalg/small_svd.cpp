// SPDX-License-Identifier: MIT
#include "lox/linalg/small_svd.hpp"

#include "lox/base/error.hpp"

#include <algorithm>
#include <vector>

extern "C" {
void dgesdd_(const char* jobz, const int* m, const int* n, double* a, const int* lda, double* s, double* u,
             const int* ldu, double* vt, const int* ldvt, double* work, const int* lwork, int* iwork,
             int* info);
void dsyev_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w,
            double* work, const int* lwork, int* info);
void dsyevr_(const char* jobz, const char* range, const char* uplo, const int* n, double* a, const int* lda,
             const double* vl, const double* vu, const int* il, const int* iu, const double* abstol, int* m,
             double* w, double* z, const int* ldz, int* isuppz, double* work, const int* lwork, int* iwork,
             const int* liwork, int* info);
}

namespace lox {
namespace {

/// OpenBLAS's SSE2 kernels of dsymv read up to four numbers past the end of y, and LAPACK's y lies at the end
/// of the workspace.
constexpr std::size_t read_past_the_end = 4;

void check(int info, const char* routine, Index rows, Index cols) {
  if (info != 0)
    fail(ExitCode::internal, "LAPACK {} of a {} x {} matrix: info = {}", routine, rows, cols, info);
}

}  // namespace

SmallSvd small_svd(const Small& matrix) {
  Small copy = matrix;
  const auto m = static_cast<int>(copy.rows());
  const auto n = static_cast<int>(copy.cols());
  const int least = std::min(m, n);
  SmallSvd result{Small(m, least), Eigen::VectorXd(least), Small()};
  if (least == 0) {
    result.v.resize(n, 0);
    return result;
  }
  Small vt(least, n);
  std::vector<int> iwork(static_cast<std::size_t>(8 * least));
  std::vector<double> work(1);
  int info = 0;
  for (int lwork : {-1, 0}) {  // ask for the workspace, then do it
    if (lwork == 0) {
      lwork = static_cast<int>(work[0]);
      work.resize(static_cast<std::size_t>(lwork));
    }
    dgesdd_("S", &m, &n, copy.data(), &m, result.sigma.data(), result.u.data(), &m, vt.data(), &least,
            work.data(), &lwork, iwork.data(), &info);
    check(info, "dgesdd", m, n);
  }
  result.v = vt.transpose();
  return result;
}

namespace {

/// By QR iteration, all vectors in place of the matrix: slower, and safe where eigenvalues are equal.
TopEigen all_eigen(Small matrix, Index count) {
  const auto n = static_cast<int>(matrix.rows());
  Eigen::VectorXd values(n);
  std::vector<double> work(1);
  int info = 0;
  for (int lwork : {-1, 0}) {
    if (lwork == 0) {
      lwork = static_cast<int>(work[0]);
      work.resize(static_cast<std::size_t>(lwork) + read_past_the_end);
    }
    dsyev_("V", "L", &n, matrix.data(), &n, values.data(), work.data(), &lwork, &info);
    check(info, "dsyev", n, n);
  }
  return {values.tail(count).reverse(), matrix.rightCols(count).rowwise().reverse()};
}

}  // namespace

TopEigen top_eigen(Small matrix, Index count) {
  // The routine destroys the lower half: the upper one remembers it.
  const Eigen::VectorXd diagonal = matrix.diagonal();
  matrix.triangularView<Eigen::StrictlyUpper>() = matrix.transpose();
  const auto n = static_cast<int>(matrix.rows());
  const int first = n - static_cast<int>(count) + 1;
  Eigen::VectorXd values(n);
  Small vectors(n, count);
  std::vector<int> support(static_cast<std::size_t>(2 * n));
  std::vector<double> work(1);
  std::vector<int> iwork(1);
  const double unused = 0;
  int found = 0;
  int info = 0;
  for (int lwork : {-1, 0}) {
    int liwork = lwork;
    if (lwork == 0) {
      lwork = static_cast<int>(work[0]);
      liwork = iwork[0];
      work.resize(static_cast<std::size_t>(lwork) + read_past_the_end);
      iwork.resize(static_cast<std::size_t>(liwork));
    }
    dsyevr_("V", "I", "L", &n, matrix.data(), &n, &unused, &unused, &first, &n, &unused, &found,
            values.data(), vectors.data(), &n, support.data(), work.data(), &lwork, iwork.data(), &liwork,
            &info);
    check(info, "dsyevr", n, n);
  }
  if (found != count) {  // as it does where many are equal
    matrix.triangularView<Eigen::StrictlyLower>() = matrix.transpose();
    matrix.diagonal() = diagonal;
    return all_eigen(std::move(matrix), count);
  }
  return {values.head(count).reverse(), vectors.rowwise().reverse()};
}

}  // namespace lox
