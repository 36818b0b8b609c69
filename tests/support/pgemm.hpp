// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/scalapack.hpp"

extern "C" void psgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k,
                        const float* alpha, const float* a, const int* ia, const int* ja, const int* desca,
                        const float* b, const int* ib, const int* jb, const int* descb, const float* beta,
                        float* c, const int* ic, const int* jc, const int* descc);

namespace lox::testing {

/// c = a^T b if transposed, else a b, by ScaLAPACK: what lox's own product is compared with. All block-cyclic
/// on one grid; a is rows x cols, b and c have `thin` columns.
inline void pgemm(bool transposed, Index rows, Index cols, Index thin, const float* a,
                  const scalapack::Descriptor& a_descriptor, const float* b,
                  const scalapack::Descriptor& b_descriptor, float* c,
                  const scalapack::Descriptor& c_descriptor) {
  const int one = 1;
  const int m = scalapack::to_int(transposed ? cols : rows, "rows");
  const int k = scalapack::to_int(transposed ? rows : cols, "columns");
  const int n = scalapack::to_int(thin, "columns");
  const float unit = 1;
  const float zero = 0;
  psgemm_(transposed ? "T" : "N", "N", &m, &n, &k, &unit, a, &one, &one, a_descriptor.data(), b, &one, &one,
          b_descriptor.data(), &zero, c, &one, &one, c_descriptor.data());
}

}  // namespace lox::testing
