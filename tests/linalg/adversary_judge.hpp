// SPDX-License-Identifier: MIT
// Judges a truncated SVD against LAPACK's of the same matrix in double. Shares no code with the solver.
#pragma once
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "linalg/adversary_solver.hpp"

namespace lox::adversary {

struct Reference {
  Small u;
  Eigen::VectorXd sigma;  ///< all of them
  Small v;
  double at(Index i) const { return i < sigma.size() ? sigma[i] : 0; }
  Small part(Index k) const {
    const Index count = std::min(k, sigma.size());
    return u.leftCols(count) * sigma.head(count).asDiagonal() * v.leftCols(count).transpose();
  }
};

/// What double itself loses, relative to s_1.
constexpr double double_rounding = 128 * 0x1p-53;
/// Singular values below this share of the largest may be called zero.
constexpr double nothing = 1e-10;

Reference lapack_svd(Small a, bool vectors);
Reference jacobi_svd(const Small& a);

/// Checked, and by another method if the check fails.
Reference reference_svd(const Small& a);

/// Is Delta_k unique, well enough?
bool separated(const Reference& r, Index k);

/// The error of Delta_k worth asking for: 1e-4 s_k, but not less than rounding makes. Triplet i is rounded by
/// `rounding` s_1, which a gap of g to s_k+1 turns into rounding s_1 s_k / g.
double sensible_delta_error(const Reference& r, Index k, bool wide);

struct Fault {
  std::string_view what;
  std::string detail;
};
using Faults = std::vector<Fault>;

Faults judge(const Small& a, const Reference& r, const Ask& ask, const Answer& got);

}  // namespace lox::adversary
