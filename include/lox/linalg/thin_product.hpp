// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/matrix.hpp"

namespace lox {

/// Products of a large A (m x n) with panels of few columns: A is read once, and used from where it lies. A
/// BLAS packs A first, which takes as long as such a product itself; measured in docs/benchmarks.md. Sums are
/// blocked in a fixed order, so the result depends neither on the number of threads nor, of AVX2 and AVX-512,
/// on the instruction set.

/// y = A x.
void multiply(const RowMajorView& a, const Panel& x, Panel& y);
/// z = A^T u.
void multiply_adjoint(const RowMajorView& a, const Panel& u, Panel& z);
/// Both in one pass over A. u may be y: then z = A^T A x. No other panels may be the same.
void multiply_both(const RowMajorView& a, const Panel& x, Panel& y, const Panel& u, Panel& z);

/// The same in double, A being float: for matrices whose singular values differ by more than float can carry,
/// and for weights of 32 bits and more.
void multiply(const RowMajorView& a, const Small& x, Small& y);
void multiply_adjoint(const RowMajorView& a, const Small& u, Small& z);
void multiply_both(const RowMajorView& a, const Small& x, Small& y, const Small& u, Small& z);

/// The instruction set that they use on this processor: "avx512f", "avx2", or "blas" if it has neither.
const char* thin_product_kernel();

}  // namespace lox
