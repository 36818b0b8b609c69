// SPDX-License-Identifier: MIT
#include "lox/linalg/orthonormalise.hpp"

#include "lox/linalg/small_svd.hpp"

#include <algorithm>

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
  // Not Eigen's solver: its products with the BLAS's symv may read past the end of a vector, see
  // small_svd.cpp.
  const TopEigen eigen = top_eigen(gram, gram.rows());
  Index kept = 0;
  while (kept < eigen.values.size() && eigen.values[kept] > floor * floor) ++kept;
  const Eigen::VectorXd lengths = eigen.values.head(kept).cwiseSqrt();
  const auto vectors = eigen.vectors.leftCols(kept);
  return {vectors * lengths.cwiseInverse().asDiagonal(), lengths.asDiagonal() * vectors.transpose()};
}

}  // namespace lox
