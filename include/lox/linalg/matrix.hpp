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
using RowMajorDoubles = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowMajorView = Eigen::Map<const RowMajorMatrix>;

/// What stands out from rounding.
struct Arithmetic {
  double product;    ///< error of a long product, relative to |A| |x|
  double direction;  ///< directions that add less than this share of |A| are rounding
  double value;      ///< singular values below this share of the largest count as zero
};
template <class Scalar>
inline constexpr Arithmetic arithmetic = {1e-7, 4e-7, 4e-7};
template <>
inline constexpr Arithmetic arithmetic<double> = {2e-16, 1e-13, 1e-10};

}  // namespace lox
