// SPDX-License-Identifier: MIT
#pragma once
#include <cstdint>

#include <Eigen/Core>

namespace lox {

using Index = Eigen::Index;

/// A tall matrix of few columns: a basis, a block of singular vectors. Column major.
template <class Scalar>
using PanelOf = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;
using Panel = PanelOf<float>;
/// The same in double: a matrix of the size of a basis, the same on every rank, or a panel of factors.
using Small = PanelOf<double>;
/// A weight matrix or its delta as files hold it: row major.
using RowMajorMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowMajorView = Eigen::Map<const RowMajorMatrix>;

/// What rounding does to a long product, relative to |A| |x|, and the share of the largest below which
/// singular values and directions are nothing but rounding.
template <class Scalar>
struct Rounding;
template <>
struct Rounding<float> {
  static constexpr double of_product = 1e-7;
  static constexpr double floor = 4e-7;
};
template <>
struct Rounding<double> {
  static constexpr double of_product = 2e-16;
  static constexpr double floor = 1e-13;
};

}  // namespace lox
