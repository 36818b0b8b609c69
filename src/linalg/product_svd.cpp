// SPDX-License-Identifier: MIT
#include "lox/linalg/product_svd.hpp"

#include "lox/linalg/small_svd.hpp"

#include <algorithm>

#include <Eigen/QR>

namespace lox {
namespace {

/// Singular values below this share of the largest are what rounding makes of zero.
constexpr double nothing = 1e-14;

struct ThinQr {
  Small q;  ///< orthonormal columns
  Small r;
};

ThinQr thin_qr(const Small& matrix) {
  const Eigen::HouseholderQR<Small> qr(matrix);
  const Index count = std::min(matrix.rows(), matrix.cols());
  ThinQr result;
  result.q = qr.householderQ() * Small::Identity(matrix.rows(), count);
  result.r = qr.matrixQR().topRows(count).triangularView<Eigen::Upper>();
  return result;
}

double off_orthonormal(const Small& vectors) {
  if (vectors.cols() == 0) return 0;
  const Small gram = vectors.transpose() * vectors;
  return (gram - Small::Identity(gram.rows(), gram.cols())).cwiseAbs().maxCoeff();
}

}  // namespace

ProductSvd product_svd(const Small& b, const Small& a, double scale) {
  ProductSvd result;
  Factors& f = result.factors;
  {
    const ThinQr left = thin_qr(b);
    const ThinQr right = thin_qr(a);
    const SmallSvd svd = small_svd(scale * left.r * right.r.transpose());
    const Index count = svd.sigma.size() == 0 ? 0 : (svd.sigma.array() > nothing * svd.sigma[0]).count();
    f.u = left.q * svd.u.leftCols(count);
    f.v = right.q * svd.v.leftCols(count);
    f.sigma.assign(svd.sigma.data(), svd.sigma.data() + count);
  }
  const Eigen::Map<const Eigen::VectorXd> sigma(f.sigma.data(), f.u.cols());
  const Small forth = scale * b * (a.transpose() * f.v) - f.u * sigma.asDiagonal();
  const Small back = scale * a * (b.transpose() * f.u) - f.v * sigma.asDiagonal();
  for (Index i = 0; i < f.u.cols(); ++i) {
    result.residuals.push_back(std::max(forth.col(i).norm(), back.col(i).norm()) / sigma[i]);
    result.certificate.residual = std::max(result.certificate.residual, result.residuals.back());
  }
  result.certificate.orthogonality = std::max(off_orthonormal(f.u), off_orthonormal(f.v));
  return result;
}

}  // namespace lox
