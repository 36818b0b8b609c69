// SPDX-License-Identifier: MIT
#include "lox/linalg/subspace.hpp"

#include "lox/linalg/small_svd.hpp"

#include <algorithm>
#include <cmath>

#include <Eigen/QR>

namespace lox {
namespace {

/// An orthonormal basis of the span of the first k columns.
Small basis_of(const Small& columns, Index k) {
  const Eigen::HouseholderQR<Small> qr(columns.leftCols(k));
  return qr.householderQ() * Small::Identity(columns.rows(), k);
}

}  // namespace

double subspace_share(const Small& image, Index k, double norm) {
  return std::min(1.0, image.leftCols(std::min(k, image.cols())).norm() / norm);
}

double subspace_overlap(const Small& products, Index k) {
  const Index left = std::min(k, products.rows());
  const Index right = std::min(k, products.cols());
  const double dimension = static_cast<double>(std::max(left, right));
  return std::min(1.0, products.topLeftCorner(left, right).squaredNorm() / dimension);
}

std::vector<double> principal_angles(const Small& u, const Small& v, Index k) {
  const Index of_u = std::min(k, u.cols());
  const Index of_v = std::min(k, v.cols());
  if (of_v > of_u) return principal_angles(v, u, k);
  if (of_v == 0) return {};
  const Small larger = basis_of(u, of_u);
  const Small smaller = basis_of(v, of_v);
  const Small products = larger.transpose() * smaller;
  const Small outside = smaller - larger * products;
  const SmallSvd cosines = small_svd(products);
  // The right factor of the QR has the same singular values, which are the sines.
  const Eigen::HouseholderQR<Small> qr(outside);
  const Small triangle = qr.matrixQR().topRows(of_v).triangularView<Eigen::Upper>();
  const SmallSvd sines = small_svd(triangle);
  std::vector<double> angles;
  for (Index i = 0; i < of_v; ++i) {
    const double cosine = std::min(1.0, cosines.sigma[i]);
    const double sine = std::min(1.0, sines.sigma[of_v - 1 - i]);
    angles.push_back(cosine * cosine < 0.5 ? std::acos(cosine) : std::asin(sine));
  }
  return angles;
}

}  // namespace lox
