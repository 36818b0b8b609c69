#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Does it protect? Trains miniature models, hardens them with lox, attacks them: tables and plots. docs/study.md
#
#   bash jobs/study.sh [--quick] [--seeds 0,1,2] [--out DIR] [--workers N]
#   bash jobs/study.sh --landscape [--out DIR]
#   bash jobs/study.sh --redraw --out DIR
#
# --quick takes minutes, the whole study more than an hour on two cores, --landscape, a part of it, less. It goes on where it was stopped. --redraw prints
# the tables and draws the plots again, from results.csv alone.
# LOX names the program; without it, this script builds one. Needs no GPU.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [[ " $* " == *" --help "* || " $* " == *" -h "* ]]; then
  sed -n '3,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
  exit
fi

# From Debian, unless Python has them.
packages=(python3-torch python3-numpy python3-matplotlib)
found='from importlib.util import find_spec; exit(not all(map(find_spec, ("torch", "numpy", "matplotlib"))))'
if ! /usr/bin/python3 -c "$found" 2>/dev/null; then
  sudo=()
  ((EUID == 0)) || sudo=(sudo)
  "${sudo[@]}" apt-get update -q
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
fi

if [[ " $* " == *" --redraw "* ]]; then
  LOX=true # needs none
elif [[ -z ${LOX:-} ]]; then
  bash "$root/jobs/install.sh"
  (cd "$root" && cmake --preset release && cmake --build --preset release --target lox)
  LOX=$root/build/release/src/lox
fi
LOX=$(command -v "$LOX") || { echo "study.sh: LOX is not a program" >&2; exit 2; }
export LOX

# Two ranks on any machine: as root, with fewer cores than ranks, without a network.
export OMPI_ALLOW_RUN_AS_ROOT=${OMPI_ALLOW_RUN_AS_ROOT:-1}
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM:-1}
export OMPI_MCA_rmaps_base_oversubscribe=${OMPI_MCA_rmaps_base_oversubscribe:-1}
export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}
export OMPI_MCA_btl_tcp_if_include=${OMPI_MCA_btl_tcp_if_include:-lo}
export OMPI_MCA_oob_tcp_if_include=${OMPI_MCA_oob_tcp_if_include:-lo}
export PRTE_MCA_rmaps_default_mapping_policy=${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}
# One thread a process, and one set of kernels on every x86-64: the same bits on any number and make of cores.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
if grep -q -w avx2 /proc/cpuinfo; then
  export OPENBLAS_CORETYPE=Haswell ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
fi
# Memory that was used once is kept for the next step instead of being asked for again: half the time, the same bits.
export MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_TOP_PAD_=200000000

PYTHONPATH=$root/jobs PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 -m study.study "$@"
