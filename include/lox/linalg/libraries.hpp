// SPDX-License-Identifier: MIT
#pragma once
#include <string>

namespace lox {

/// What the linked BLAS says of itself, e.g. "OpenBLAS 0.3.21 ...".
std::string blas_library_version();
/// OpenBLAS takes processors that are newer than itself for one without AVX ("Prescott"): half the speed. It
/// reads its choice of kernels when it is loaded; so this starts the program anew, with OPENBLAS_CORETYPE set
/// to what the processor has. Does nothing where that is set already or OpenBLAS knows the processor. Before
/// MPI starts.
void restart_with_blas_kernels(char** argv);
/// Where ScaLAPACK comes from. It has no call that tells its version.
std::string scalapack_library_version();

/// Threads of BLAS and of lox's own loops.
void set_threads(int threads);
int max_threads();
/// Threads of lox's own loops (not of BLAS) when the calling thread runs them.
void set_threads_here(int threads);
/// Processors of this machine that are online.
int processors();

}  // namespace lox
