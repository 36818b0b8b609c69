#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# From nothing to hardened models in one command: installs what is needed, builds, hardens a small trained pair on
# two ranks by way of HDF5, checks the result and shows what was done; then solves once more, keeps the factors, and
# makes models of three coefs of them. Leaves everything in build/demo.
# A pair of your own: bash jobs/demo.sh BASE ALIGNED
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash jobs/install.sh
cmake --preset release >/dev/null
cmake --build --preset release --target lox
lox=$PWD/build/release/src/lox

# A laptop, a container: root may run MPI, there may be fewer cores than ranks, and traffic stays on this machine.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_pml=ob1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

mkdir -p build/demo
demo=$(cd build/demo && pwd)
# The default pair was trained: a miniature Llama before and after safety tuning (tests/data/README.md).
base=$(realpath "${1:-tests/data/base}")
aligned=$(realpath "${2:-tests/data/aligned}")
cd "$demo"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() {
  printf '$ %s\n' "$(printf '%s ' "$@" | sed "s|$lox|lox|; s|$demo/||g; s|$base|base|g; s|$aligned|aligned|g")"
  "$@"
}

say "1. The pair: one model before, one after alignment"
run "$lox" inspect "$aligned"

say "2. To HDF5"
run "$lox" convert "$base" base.h5 --overwrite
run "$lox" convert "$aligned" aligned.h5 --overwrite

say "3. Harden on two ranks"
run mpirun -n 2 "$lox" harden --base base.h5 --aligned aligned.h5 --output hardened.h5 --overwrite

say "4. Check it against an exact SVD"
run "$lox" verify --base base.h5 --aligned aligned.h5 --hardened hardened.h5

say "5. Back to safetensors, for the next stage"
run "$lox" convert hardened.h5 hardened --overwrite
ls -l hardened

say "What was done"
run "$lox" report hardened.h5

say "6. Solve once, keep the factors"
run mpirun -n 2 "$lox" factor --base base.h5 --aligned aligned.h5 --output factors.h5 --overwrite
run "$lox" verify --base base.h5 --aligned aligned.h5 --factors factors.h5

say "7. Three coefs of them, in one reading of the aligned model"
run "$lox" apply --aligned "$aligned" --factors factors.h5 --coef 0.5,1,1.25 --output "hardened-{coef}" --overwrite
run "$lox" verify --aligned "$aligned" --factors factors.h5 --hardened hardened-0.5 --coef 0.5
ls -d hardened-*[0-9]
