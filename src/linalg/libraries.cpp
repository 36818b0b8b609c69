// SPDX-License-Identifier: MIT
#include "lox/linalg/libraries.hpp"

#include <omp.h>

// Present in OpenBLAS only; other libraries follow OMP_NUM_THREADS.
extern "C" {
__attribute__((weak)) const char* openblas_get_config();
__attribute__((weak)) void openblas_set_num_threads(int threads);
}

namespace lox {

std::string blas_library_version() {
  return openblas_get_config != nullptr ? openblas_get_config() : "not OpenBLAS: it does not tell";
}

std::string scalapack_library_version() {
  return LOX_SCALAPACK_NAME;
}

void set_threads(int threads) {
  omp_set_num_threads(threads);
  if (openblas_set_num_threads != nullptr) openblas_set_num_threads(threads);
}

void set_threads_here(int threads) {
  omp_set_num_threads(threads);
}

int max_threads() {
  return omp_get_max_threads();
}

int processors() {
  return omp_get_num_procs();
}

}  // namespace lox
