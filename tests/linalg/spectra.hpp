// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/random.hpp"
#include "lox/linalg/matrix.hpp"
#include "lox/linalg/svd.hpp"

#include <cmath>
#include <vector>

#include <Eigen/QR>

namespace lox {

/// m x k with orthonormal columns, by Householder QR in double.
inline Small random_orthonormal(Index m, Index k, std::uint64_t key) {
  Small x(m, k);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = normal_at(key, static_cast<std::uint64_t>(i));
  return Eigen::HouseholderQR<Small>(x).householderQ() * Small::Identity(m, k);
}

/// U diag(sigma) V^T, in double.
inline Small product(const Factors& f) {
  const auto k = static_cast<Index>(f.sigma.size());
  return f.u * Eigen::Map<const Eigen::VectorXd>(f.sigma.data(), k).asDiagonal() * f.v.transpose();
}

/// U diag(sigma) V^T with known factors, in double.
struct Planted {
  Small u, v;
  Eigen::VectorXd sigma;
  Small matrix() const { return u * sigma.asDiagonal() * v.transpose(); }
};

inline Planted planted(Index m, Index n, const std::vector<double>& sigma, std::uint64_t key = 1) {
  const auto k = static_cast<Index>(sigma.size());
  return {random_orthonormal(m, k, mix64(key)), random_orthonormal(n, k, mix64(key + 1)),
          Eigen::Map<const Eigen::VectorXd>(sigma.data(), k)};
}

/// 1, 2^-exponent, 3^-exponent ...
inline std::vector<double> power_law(std::size_t count, double exponent) {
  std::vector<double> sigma(count);
  for (std::size_t i = 0; i < count; ++i) sigma[i] = std::pow(static_cast<double>(i + 1), -exponent);
  return sigma;
}

inline RowMajorMatrix noise(Index m, Index n, double deviation, std::uint64_t key = 9) {
  RowMajorMatrix x(m, n);
  for (Index i = 0; i < x.size(); ++i) {
    x.data()[i] = static_cast<float>(deviation) * normal_at(key, static_cast<std::uint64_t>(i));
  }
  return x;
}

}  // namespace lox
