// SPDX-License-Identifier: MIT
#include "lox/linalg/libraries.hpp"

#include <cstdlib>
#include <omp.h>
#include <string_view>
#include <sys/auxv.h>
#include <unistd.h>

// Present in OpenBLAS only; other libraries follow OMP_NUM_THREADS.
extern "C" {
__attribute__((weak)) const char* openblas_get_config();
__attribute__((weak)) char* openblas_get_corename();
__attribute__((weak)) void openblas_set_num_threads(int threads);
}

namespace lox {

std::string blas_library_version() {
  return openblas_get_config != nullptr ? openblas_get_config() : "not OpenBLAS: it does not tell";
}

void restart_with_blas_kernels([[maybe_unused]] char** argv) {
#if defined(__x86_64__) && defined(__GNUC__)
  constexpr const char* choice = "OPENBLAS_CORETYPE";
  if (openblas_get_corename == nullptr || std::getenv(choice) != nullptr) return;
  if (std::string_view(openblas_get_corename()) != "Prescott" || !__builtin_cpu_supports("avx2") ||
      !__builtin_cpu_supports("fma")) {
    return;
  }
  setenv(choice, __builtin_cpu_supports("avx512vl") ? "SkylakeX" : "Haswell", 1);
  // The name it was started by, so that it is found by that name.
  execv(reinterpret_cast<const char*>(getauxval(AT_EXECFN)), argv);  // returns only where it fails
#endif
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
