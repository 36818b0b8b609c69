// SPDX-License-Identifier: MIT
#pragma once
#include "lox/task/reference_edit.hpp"

namespace lox {

/// An edit that is one of many: coef * (left right^T + u X v^T), where X = diag(sigma) seen through any
/// projector of rank `chosen`. u and v are orthonormal, sigma equal but for `spread`.
struct TiedEdit {
  double coef = 1;
  Small left;   ///< m x certain
  Small right;  ///< n x certain
  Small u;      ///< m x tied
  Small v;      ///< n x tied
  Eigen::VectorXd sigma;
  Index chosen = 0;
};

/// Searches a right X from which every entry is at most rounding and `slack` away.
Judgement judge_ties(const EditedMatrix& matrix, const TiedEdit& edit, double slack);

}  // namespace lox
