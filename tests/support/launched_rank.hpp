// SPDX-License-Identifier: MIT
#pragma once
#include <cstdlib>
#include <initializer_list>

/// The rank that the launcher has given this process, before MPI starts: Open MPI's mpirun, PMIx, or PMI,
/// which MPICH's mpiexec speaks. 0 without a launcher.
inline int launched_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}) {
    if (const char* const text = std::getenv(name); text != nullptr) return std::atoi(text);
  }
  return 0;
}
