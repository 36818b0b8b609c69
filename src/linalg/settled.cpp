// SPDX-License-Identifier: MIT
#include "lox/linalg/settled.hpp"

#include <algorithm>
#include <cmath>

namespace lox {
namespace {

/// The leading triplets alone.
SmallSvd head(const SmallSvd& svd, Index count) {
  return {svd.u.leftCols(count), svd.sigma.head(count), svd.v.leftCols(count)};
}

/// The earlier vectors as the later ones see them: vector = later * shares + the rest.
struct Shares {
  Small inside;       ///< along the later vectors
  Small inside_gram;  ///< products of these parts
  Small rest_gram;    ///< and of the rest
};
Shares shares(const Small& earlier, const Eigen::Ref<const Small>& later) {
  Shares result;
  result.inside = later.topRows(earlier.rows()).transpose() * earlier;
  Small rest = Small::Zero(later.rows(), earlier.cols());
  rest.topRows(earlier.rows()) = earlier;
  rest.noalias() -= later * result.inside;
  result.inside_gram = result.inside.transpose() * result.inside;
  result.rest_gram = rest.transpose() * rest;
  return result;
}

}  // namespace

std::string_view unsettled_name(Unsettled::Why why) {
  switch (why) {
    case Unsettled::Why::tie:
      return "tie";
    case Unsettled::Why::rounding:
      return "rounding";
    case Unsettled::Why::unfinished:
      return "unfinished";
  }
  return "?";
}

void Trend::follow(double change) {
  constexpr double slowest = 0.97;  // that is believed, a pass
  const double ratio = change_ > 0 ? std::min(change / change_, slowest) : slowest;
  const double rate = std::max(ratio, rate_);  // of the last two passes the slower one
  rate_ = ratio;
  error_ = 2 * change * rate / (1 - rate);  // twice: an estimate, not a bound
  change_ = change;
}

void ErrorOfDelta::see(const SmallSvd& ritz) {
  const Index count = std::min(k_, ritz.sigma.size());
  Small now =
      ritz.u.leftCols(count) * ritz.sigma.head(count).asDiagonal() * ritz.v.leftCols(count).transpose();
  if (last_.size() > 0) {  // the first change tells nothing of the rate
    Small difference = now;
    difference.topLeftCorner(last_.rows(), last_.cols()) -= last_;
    trend_.follow(difference.norm());
  }
  last_ = std::move(now);
}

void ErrorOfDelta::restart(const Eigen::VectorXd& sigma) {
  last_ = Small::Zero(sigma.size(), sigma.size());
  const Index count = std::min(k_, sigma.size());
  last_.diagonal().head(count) = sigma.head(count);
}

void ErrorsOfPrefixes::see(const SmallSvd& ritz) {
  const auto count = static_cast<Index>(trends_.size());
  if (last_.sigma.size() > 0) {
    const Eigen::VectorXd changes = prefix_changes(last_, ritz, count);
    for (Index i = 0; i < count; ++i) trends_[static_cast<std::size_t>(i)].follow(changes[i]);
  }
  last_ = head(ritz, std::min(count, ritz.sigma.size()));
}

void ErrorsOfPrefixes::restart(const Eigen::VectorXd& sigma) {
  const Index count = std::min(static_cast<Index>(trends_.size()), sigma.size());
  last_ = {Small::Identity(sigma.size(), count), sigma.head(count), Small::Identity(sigma.size(), count)};
}

Eigen::VectorXd prefix_changes(const SmallSvd& earlier, const SmallSvd& later, Index count) {
  const Index now = std::min(count, later.sigma.size());
  const Index then = std::min(count, earlier.sigma.size());
  const Shares left = shares(earlier.u.leftCols(then), later.u.leftCols(now));
  const Shares right = shares(earlier.v.leftCols(then), later.v.leftCols(now));
  // In coordinates of the later vectors the difference is a matrix that each triplet changes; what the
  // earlier triplets have outside of them is a sum of squares.
  const auto values = earlier.sigma.head(then);
  const Small outside = values.asDiagonal() *
                        (left.inside_gram.cwiseProduct(right.rest_gram) +
                         left.rest_gram.cwiseProduct(right.inside_gram + right.rest_gram)) *
                        values.asDiagonal();
  Small inside = Small::Zero(now, now);
  double squares = 0;
  Eigen::VectorXd changes(count);
  for (Index i = 0; i < count; ++i) {
    if (i < then) {
      inside.noalias() -= (values[i] * left.inside.col(i)) * right.inside.col(i).transpose();
      squares += 2 * outside.col(i).head(i).sum() + outside(i, i);
    }
    if (i < now) inside(i, i) += later.sigma[i];
    changes[i] = std::sqrt(inside.squaredNorm() + std::max(squares, 0.0));
  }
  return changes;
}

std::vector<Unsettled> unsettled_by_residuals(const std::vector<double>& sigma, double next,
                                              const std::vector<double>& residuals, double delta_error) {
  std::vector<Unsettled> unsettled;
  if (delta_error <= 0) return unsettled;
  // Of equal values a residual may vanish, and their vectors are any.
  double squares = sigma.empty() ? 0 : std::pow(arithmetic<double>.product * sigma.front(), 2);
  for (std::size_t i = 0; i < sigma.size(); ++i) {
    squares += std::pow(residuals[i] * sigma[i], 2);
    const double beyond = i + 1 < sigma.size() ? sigma[i + 1] : next;
    const double gap = 1 - beyond / sigma[i];
    if (std::sqrt(squares) * (1 + 1 / std::max(gap, 1e-300)) <= delta_error) continue;
    unsettled.push_back(
        {static_cast<Index>(i + 1), gap, gap < tie_gap ? Unsettled::Why::tie : Unsettled::Why::rounding});
  }
  return unsettled;
}

}  // namespace lox
