// SPDX-License-Identifier: MIT
#include "lox/task/reference_adapter.hpp"

#include "lox/base/buffer.hpp"
#include "lox/task/reference_svd.hpp"
#include "lox/task/reference_ties.hpp"

#include <algorithm>
#include <cmath>

namespace lox {
namespace {

/// What float32 sums of a row's or a column's products may be off, as a share of their rms.
constexpr double arithmetic_share = 0x1p-19;
/// What Delta_k may be off, of its rms: a Gram matrix in double knows the vectors about so well.
constexpr double gram_share = 1e-5;
constexpr double tie = 1e-3;
constexpr double nothing = 1e-7;  // of s_1: what a Gram matrix makes of zero

RowMajorDoubles read_matrix(const AdaptedModel& model, Storage& storage, int index) {
  const TensorInfo& tensor = model.adapter.table.tensors[static_cast<std::size_t>(index)];
  Buffer bytes(tensor.extent.bytes);
  storage.read(tensor, 0, bytes.bytes());
  RowMajorDoubles values(tensor.shape.size() == 1 ? 1 : tensor.shape[0], tensor.shape.back());
  to_double(tensor.dtype, bytes.data(), static_cast<std::size_t>(values.size()), values.data());
  return values;
}

/// The part of Delta that is determined at k, and what is left to choose.
struct Share {
  Small left;  ///< Delta_k = left right^T, or what of it is certain
  Small right;
  TiedEdit tied;  ///< with no columns in u: nothing is
};

/// By eigenvectors P of the smaller Gram matrix: Delta_k = P P^T Delta, or Delta P P^T.
Share split(const RowsInDouble& delta, Index k, double coef) {
  const bool tall = delta.rows() > delta.cols();
  Small gram = tall ? Small(delta.transpose() * delta) : Small(delta * delta.transpose());
  const ReferenceEigen values = reference_eigen(gram, 0);
  const Eigen::VectorXd sigma = values.values.cwiseMax(0).cwiseSqrt();
  const double middle = sigma[k - 1];
  Index first = k;
  Index end = k;
  if (middle > nothing * sigma[0]) {
    const Index equal = (sigma.array() >= (1 - tie) * middle).count();
    if (equal > k) {
      first = (sigma.array() > (1 + tie) * middle).count();
      end = equal;
    }
  }
  const Small p = reference_eigen(std::move(gram), end).vectors;
  const Small certain = p.leftCols(first);
  Share share;
  share.left = tall ? Small(delta * certain) : certain;
  share.right = tall ? certain : Small(delta.transpose() * certain);
  const Index count = end - first;
  share.tied.coef = coef;
  share.tied.sigma = sigma.segment(first, count);
  share.tied.chosen = k - first;
  const Small near = p.middleCols(first, count);
  const Small far = (tall ? Small(delta * near) : Small(delta.transpose() * near)) *
                    share.tied.sigma.cwiseInverse().asDiagonal();
  share.tied.u = tall ? far : near;
  share.tied.v = tall ? near : far;
  return share;
}

Small beside(const Small& one, const Small& other) {
  Small both(one.rows(), one.cols() + other.cols());
  both << one, other;
  return both;
}

}  // namespace

ReferenceProduct reference_product(const AdaptedModel& model, Storage& storage, const Item& item) {
  const LoraUpdate& update = model.updates.at(item.matrix.tensor(aligned_model));
  const RowMajorDoubles b = read_matrix(model, storage, update.b);
  ReferenceProduct product;
  if (update.is_bias()) {
    product.left = Small::Constant(1, 1, update.scale);
    product.right = b.transpose();
    return product;
  }
  const RowMajorDoubles a = read_matrix(model, storage, update.a);
  Small of_b(b.rows(), update.r);
  Small of_a(a.cols(), update.r);
  for (Index j = 0; j < update.r; ++j) {
    of_b.col(j) = b.col(update.experts * j + item.matrix.number);
    of_a.col(j) = a.row(update.r * item.matrix.number + j).transpose();
  }
  product.left = update.scale * (update.turned ? of_a : of_b);
  product.right = update.turned ? of_b : of_a;
  return product;
}

Judgement judge_adapted(const EditedMatrix& matrix, const ReferenceProduct& product, Index k, double coef) {
  Judgement judgement;
  const RowsInDouble delta = product.delta();
  if (!delta.allFinite()) {
    judgement.fault = "the adapter holds NaN or Inf: no edit is right";
    return judgement;
  }
  RowsInDouble edit = delta;
  double slack = 0;
  const bool whole = k == 0 || k >= std::min({matrix.rows, matrix.cols, product.left.cols()});
  if (delta.isZero(0)) {
    judgement.kind = Judgement::Kind::none;
  } else if (coef == 0 || whole) {
    judgement.kind = Judgement::Kind::whole;
    edit *= 1 + coef;
  } else {
    const Share share = split(delta, k, coef);
    const double of_tied = static_cast<double>(share.tied.chosen) * share.tied.sigma.squaredNorm();
    slack = gram_share * coef *
            std::sqrt(((share.left * share.right.transpose()).squaredNorm() + of_tied) /
                      static_cast<double>(delta.size()));
    if (share.tied.u.cols() > 0) {
      TiedEdit tied = share.tied;
      tied.left = beside(share.left, product.left / coef);
      tied.right = beside(share.right, product.right);
      return judge_ties(matrix, tied, 100 * slack);
    }
    edit += coef * share.left * share.right.transpose();
  }
  hold_against_edit(matrix, edit, arithmetic_share, slack, judgement);
  return judgement;
}

}  // namespace lox
