#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds lox with Debian's MPICH and the ScaLAPACK that goes with it (preset mpich), and runs what depends on the MPI:
# the unit tests on up to three ranks (MPICH's ranks do not give up their core while they wait), ranks, the grid,
# starts, signals, kills and resumes, MPI calls that fail, agreement with numpy. Arguments go to ctest in place of that
# choice. Open MPI stays what `mpirun` is. Skips with a reason where the packages cannot be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if ! bash jobs/install.sh --tests mpich libmpich-dev libscalapack-mpich-dev; then
  echo "mpich: skipped, its packages cannot be had here"
  exit 0
fi
cmake --preset mpich
cmake --build --preset mpich --target lox lox_with_faults {base,linalg,run,task}_mpi_test
if [ $# -eq 0 ]; then
  set -- -R '^((base|linalg|run|task)_mpi_[123]|(ranks|grid|start|help|parity|kill|stopping|mpi_fault)_test)$'
fi
ctest --preset mpich "$@"
