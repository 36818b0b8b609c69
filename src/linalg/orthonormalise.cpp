// SPDX-License-Identifier: MIT
#include "lox/linalg/orthonormalise.hpp"

#include <algorithm>

#include <Eigen/Eigenvalues>

namespace lox {

Small local_gram(const Panel& panel) {
  constexpr Index rows_at_once = 1024;
  Small gram = Small::Zero(panel.cols(), panel.cols());
  Small rows;
  for (Index first = 0; first < panel.rows(); first += rows_at_once) {
    rows = panel.middleRows(first, std::min(rows_at_once, panel.rows() - first)).cast<double>();
    gram.noalias() += rows.transpose() * rows;
  }
  return gram;
}

Orthonormaliser orthonormaliser(const Small& gram, double floor) {
  const Eigen::SelfAdjointEigenSolver<Small> eigen(gram);
  const Eigen::VectorXd& values = eigen.eigenvalues();  // rising
  Index dropped = 0;
  while (dropped < values.size() && !(values[dropped] > floor * floor)) ++dropped;
  const Index kept = values.size() - dropped;
  const Eigen::VectorXd lengths = values.tail(kept).cwiseSqrt();
  const auto vectors = eigen.eigenvectors().rightCols(kept);
  return {vectors * lengths.cwiseInverse().asDiagonal(), lengths.asDiagonal() * vectors.transpose()};
}

}  // namespace lox
