// SPDX-License-Identifier: MIT
#include "lox/linalg/orthonormalise.hpp"

#include "lox/linalg/small_svd.hpp"

#include <algorithm>

namespace lox {
namespace {

constexpr Index rows_at_once = 1024;

/// Calls work(first, count) for pieces of `rows` rows.
template <class Work>
void by_rows(Index rows, Work work) {
  for (Index first = 0; first < rows; first += rows_at_once) {
    work(first, std::min(rows_at_once, rows - first));
  }
}

}  // namespace

Small local_gram(const Panel& panel) {
  Small gram = Small::Zero(panel.cols(), panel.cols());
  Small rows;
  by_rows(panel.rows(), [&](Index first, Index count) {
    rows = panel.middleRows(first, count).cast<double>();
    gram.noalias() += rows.transpose() * rows;
  });
  return gram;
}

Small local_gram(const Small& panel) {
  return panel.transpose() * panel;
}

Small local_inner(const Eigen::Ref<const Panel>& x, const Panel& y) {
  Small sum = Small::Zero(x.cols(), y.cols());
  Panel product;
  by_rows(y.rows(), [&](Index first, Index count) {
    product.noalias() = x.middleRows(first, count).transpose() * y.middleRows(first, count);
    sum += product.cast<double>();
  });
  return sum;
}

Small local_inner(const Eigen::Ref<const Small>& x, const Small& y) {
  return x.transpose() * y;
}

Orthonormaliser orthonormaliser(const Small& gram, double floor) {
  constexpr double shortest = 3e-7;  // relative: its square is far above the Gram matrix's own rounding
  if (gram.rows() == 0) return {Small(0, 0), Small(0, 0), Small(0, 0), 0};
  // Not Eigen's solver: its products with the BLAS's symv may read past the end of a vector, see
  // small_svd.cpp.
  const TopEigen eigen = top_eigen(gram, gram.rows());
  const double least = std::max(floor, shortest * std::sqrt(std::max(eigen.values[0], 0.0)));
  Index kept = 0;
  while (kept < eigen.values.size() && eigen.values[kept] > least * least) ++kept;
  const Eigen::VectorXd lengths = eigen.values.head(kept).cwiseSqrt();
  const auto vectors = eigen.vectors.leftCols(kept);
  const Index left = eigen.values.size() - kept;
  return {vectors * lengths.cwiseInverse().asDiagonal(), lengths.asDiagonal() * vectors.transpose(),
          eigen.vectors.rightCols(left), left > 0 ? std::sqrt(std::max(eigen.values[kept], 0.0)) : 0};
}

}  // namespace lox
