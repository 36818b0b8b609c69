#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Measures lox against what else one could do, and writes the tables of docs/benchmarks.md from its own output.
#
#   bash jobs/bench.sh [PART]... [--write] [--repeats N] [--work DIR]
#
# Parts (all but `whole`, `plan`, `apply`, `factor`, `adapter` and `quantised` unless named):
#   speed    hardening against copying, against full SVDs, against the best one would write in Python   (10 minutes)
#   kernels  the loops over weights, one by one                                                         (1 minute)
#   blocks   iterations and time of the Krylov method by block size                                     (2 minutes)
#   grid     matrices solved by all ranks: Krylov against p?gesvd, thin products against p?gemm         (6 minutes)
#   whole    a pair of the size of Llama-2-7B, once                          (10 minutes, 41 GB of disk)
#   plan     predicted against measured time: 1 and 4 of 80 layers of Llama-3-70B       (10 minutes, 34 GB)
#   apply    models from a store of factors against plain copies, three coefs in one reading  (10 minutes, 11 GB)
#   factor   a store of k = 64 against full SVDs and the best one would write in Python        (10 minutes, 1 GB)
#   adapter  a LoRA made of two checkpoints, against mergekit-extract-lora (PyPI)       (10 minutes, 5 GB)
#   quantised  a pair in FP8 against the same weights in BF16                           (10 minutes, 11 GB)
# --write puts the tables into docs/benchmarks.md. LOX names the program; without it, this script builds one.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

competitors=()
if [[ $# -eq 0 || " $* " == *" speed "* || " $* " == *" factor "* || $1 == --* ]]; then competitors=(python3-torch python3-sklearn); fi
bash jobs/install.sh --tests "${competitors[@]}"
if [[ -z ${LOX:-} ]]; then
  cmake --preset release >/dev/null
  cmake --build --preset release --target lox kernels_benchmark blocks_benchmark grid_benchmark >/dev/null
  LOX=$root/build/release/src/lox
fi
export LOX
export LOX_BENCHMARKS=${LOX_BENCHMARKS:-$(dirname "$LOX")/../tests}

# As root, on one machine, without a network.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo OMPI_MCA_hwloc_base_binding_policy=none
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_pml=ob1
# A BLAS is to choose its kernels by the processor that it finds, for all competitors as for lox.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
core=$("$LOX" --version | sed -n 's/^BLAS *OpenBLAS .* \([^ ]*\) MAX_THREADS=.*/\1/p')
if [[ -n $core ]]; then export OPENBLAS_CORETYPE=$core; fi

PYTHONPATH=$root/jobs PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 -m bench.bench "$@"
