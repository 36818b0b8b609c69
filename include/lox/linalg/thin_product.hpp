// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/matrix.hpp"

namespace lox {

/// y = A x for a large A (m x n) and a panel x of few columns: A is read once, and used from where it lies. A
/// BLAS packs A first, which takes as long as such a product itself; measured in docs/numerics.md. Sums are
/// blocked in a fixed order, so the result does not depend on the number of threads.
void multiply(const RowMajorView& a, const Panel& x, Panel& y);

/// y = A^T x, likewise.
void multiply_adjoint(const RowMajorView& a, const Panel& x, Panel& y);

/// The instruction set that the two use on this processor: "avx512f", "avx2", or "blas" if it has neither.
const char* thin_product_kernel();

}  // namespace lox
