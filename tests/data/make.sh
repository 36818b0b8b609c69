#!/usr/bin/env bash
# Makes the trained pair again (seed 0 of the study, SFT) and compares it with the checksums:
#
#   bash tests/data/make.sh [DIR]     default: a temporary directory
#
# Needs python3-torch and python3-numpy. The same bits come out on every x86-64 machine with AVX2 and the same
# versions of torch, OpenBLAS and libm as in Debian 12; elsewhere the models behave alike but their bits may differ.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$(mktemp -d)}

export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export OPENBLAS_CORETYPE=Haswell ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
PYTHONPATH=$here/../../jobs PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 - "$out" <<'PYTHON'
import sys
from pathlib import Path

from study import checkpoint, model, study, train

study.single_thread()
out = Path(sys.argv[1])
base = train.base(seed=0)
checkpoint.save(out / "base", base, model.CONFIG)
checkpoint.save(out / "aligned", train.align_sft(checkpoint.load(out / "base"), seed=0), model.CONFIG)
PYTHON
cd "$out" && sha256sum -c "$here/SHA256SUMS"
