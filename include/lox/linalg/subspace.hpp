// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/matrix.hpp"

#include <vector>

namespace lox {

/// How subspaces that are spanned by orthonormal columns lie to a matrix and to one another. Where there are
/// fewer than k columns, all there are count. Perin et al. 2025 (LoX), R_align and R_ft; Bjorck and Golub
/// 1973 for the angles.

/// |U_k^T M|_F / |M|_F, between 0 and 1. `image`: M^T U, one column for each of U. `norm`: |M|_F, not 0.
double subspace_share(const Small& image, Index k, double norm);

/// |U_k^T V_k|_F^2 over the dimension of the larger subspace: 1 where both are the same, 0 where they are
/// orthogonal. `products`: U^T V. Both have a column.
double subspace_overlap(const Small& products, Index k);

/// The principal angles between the spans of the first k columns of both, in radians, smallest first: as many
/// as the smaller subspace has dimensions. Columns need be orthonormal to rounding in float only; small
/// angles come from sines, so that they are exact to the same rounding.
std::vector<double> principal_angles(const Small& u, const Small& v, Index k);

}  // namespace lox
