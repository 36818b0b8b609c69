// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/svd.hpp"

namespace lox {

/// All singular triplets of a product of two thin matrices, in double, and what was measured of them.
struct ProductSvd {
  Factors factors;                ///< without those that are zero but for rounding
  std::vector<double> residuals;  ///< of each triplet, over its singular value
  Certificate certificate;
};

/// Of scale * b a^T, b being m x r and a n x r: b = Q_b R_b, a = Q_a R_a, and the SVD of scale * R_b R_a^T,
/// an r x r matrix. The product itself is never formed: O((m + n) r^2) operations.
ProductSvd product_svd(const Small& b, const Small& a, double scale);

}  // namespace lox
