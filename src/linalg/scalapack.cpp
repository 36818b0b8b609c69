// SPDX-License-Identifier: MIT
#include "lox/linalg/scalapack.hpp"

#include "lox/base/error.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

extern "C" {
void Cpsgemr2d(int m, int n, const float* a, int ia, int ja, const int* desca, float* b, int ib, int jb,
               const int* descb, int context);
void psgesvd_(const char* jobu, const char* jobvt, const int* m, const int* n, float* a, const int* ia,
              const int* ja, const int* desca, float* s, float* u, const int* iu, const int* ju,
              const int* descu, float* vt, const int* ivt, const int* jvt, const int* descvt, float* work,
              const int* lwork, int* info);
}

namespace lox::scalapack {
namespace {

constexpr int one = 1;

}  // namespace

int to_int(Index value, const char* what) {
  if (value > std::numeric_limits<int>::max()) {
    fail(ExitCode::bad_input, "{} of {} does not fit ScaLAPACK's 32-bit integers; use more ranks", what,
         value);
  }
  return static_cast<int>(value);
}

Descriptor make_descriptor(int context, Index rows, Index cols, Index row_block, Index col_block,
                           Index leading) {
  return {1,
          context,
          to_int(rows, "rows"),
          to_int(cols, "columns"),
          to_int(row_block, "block"),
          to_int(col_block, "block"),
          0,
          0,
          to_int(std::max<Index>(leading, 1), "leading dimension")};
}

void redistribute(Index rows, Index cols, const float* from, const Descriptor& from_descriptor, float* to,
                  Index row, Index col, const Descriptor& to_descriptor, int everyone) {
  Cpsgemr2d(to_int(rows, "rows"), to_int(cols, "columns"), from, 1, 1, from_descriptor.data(), to,
            to_int(row + 1, "row"), to_int(col + 1, "column"), to_descriptor.data(), everyone);
}

void gesvd(Index rows, Index cols, float* a, const Descriptor& a_descriptor, std::vector<float>& sigma,
           float* u, const Descriptor& u_descriptor, float* vt, const Descriptor& vt_descriptor) {
  const int m = to_int(rows, "rows");
  const int n = to_int(cols, "columns");
  sigma.resize(static_cast<std::size_t>(std::min(m, n)));
  std::vector<float> work(1);
  int lwork = -1;
  int info = 0;
  const auto call = [&] {
    psgesvd_("V", "V", &m, &n, a, &one, &one, a_descriptor.data(), sigma.data(), u, &one, &one,
             u_descriptor.data(), vt, &one, &one, vt_descriptor.data(), work.data(), &lwork, &info);
    if (info != 0) {
      fail(
          ExitCode::not_certified, "ScaLAPACK psgesvd of a {} x {} matrix: info = {}{}", m, n, info,
          info == std::min(m, n) + 1 ? " (singular values differ between nodes: are they of one kind?)" : "");
    }
  };
  call();
  // The size comes back as a float: above 2^24 it may have been rounded down by half a unit in the last
  // place.
  const double asked = std::ceil(static_cast<double>(work[0]) * (1 + 0x1p-23)) + 1;
  lwork = to_int(static_cast<Index>(asked), "psgesvd workspace");
  work.resize(static_cast<std::size_t>(lwork));
  call();
}

}  // namespace lox::scalapack
