// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/process_grid.hpp"

#include <array>
#include <vector>

namespace lox::scalapack {

/// The Fortran routines that lox uses, with 64-bit sizes checked on the way to int and info turned into
/// errors.

/// DTYPE_, CTXT_, M_, N_, MB_, NB_, RSRC_, CSRC_, LLD_. The context is -1 on ranks outside the grid.
using Descriptor = std::array<int, 9>;
Descriptor make_descriptor(int context, Index rows, Index cols, Index row_block, Index col_block,
                           Index leading);

/// Throws Error(bad_input) if a size does not fit ScaLAPACK's 32-bit integers.
int to_int(Index value, const char* what);

/// to[row.., col..] = from, a rows x cols matrix, between any two distributions. Collective over all ranks of
/// `everyone`, the context of a grid that holds both.
void redistribute(Index rows, Index cols, const float* from, const Descriptor& from_descriptor, float* to,
                  Index row, Index col, const Descriptor& to_descriptor, int everyone);

/// a = u diag(sigma) vt by p?gesvd; a (rows x cols) is destroyed. Row and column blocks must be equal.
void gesvd(Index rows, Index cols, float* a, const Descriptor& a_descriptor, std::vector<float>& sigma,
           float* u, const Descriptor& u_descriptor, float* vt, const Descriptor& vt_descriptor);

}  // namespace lox::scalapack
