// SPDX-License-Identifier: MIT
#pragma once
#include <cstdint>

#include <Eigen/Core>

namespace lox {

using Index = Eigen::Index;

/// A tall matrix of few columns: a basis, a block of singular vectors. Column major.
using Panel = Eigen::MatrixXf;
/// A matrix of the size of a basis, the same on every rank.
using Small = Eigen::MatrixXd;
/// A weight matrix or its delta as files hold it: row major.
using RowMajorMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowMajorView = Eigen::Map<const RowMajorMatrix>;

/// Relative rounding of a long product in float: singular values below this share of the largest are noise.
constexpr double float_rounding = 4e-7;

}  // namespace lox
