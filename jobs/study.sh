#!/usr/bin/env bash
# Does it protect? Trains miniature models, hardens them with lox, attacks them: tables and plots. docs/study.md
#
#   bash jobs/study.sh [--quick] [--seeds 0,1,2] [--out DIR] [--workers N]
#
# --quick takes minutes, the whole study about an hour on two cores. It goes on where it was stopped.
# LOX names the program; without it, this script builds one. Needs no GPU.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

missing=()
for package in python3-torch python3-numpy python3-matplotlib; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if ((${#missing[@]})); then
  sudo=()
  ((EUID == 0)) || sudo=(sudo)
  "${sudo[@]}" apt-get update -q
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

if [[ -z ${LOX:-} ]]; then
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

PYTHONPATH=$root/jobs PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 -m study.study "$@"
