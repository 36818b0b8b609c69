#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# An example: hardening as a stage of a training workflow. The job before writes the aligned checkpoint, the job after
# takes the hardened one.
#
#   slurm/stage.sh ALIGN_JOBID JOBFILE NEXT_SCRIPT [sbatch's options]
#
# In a workflow of your own:
#
#   align=$(sbatch --parsable align.sbatch)                      # writes what JOBFILE calls aligned
#   slurm/stage.sh "$align" harden.ini serve.sbatch --account=me # serve.sbatch gets the hardened checkpoint as $1
#
# Nothing starts before what it needs is finished and verified; if a stage fails, those after it are cancelled.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

[ $# -ge 3 ] || { echo "usage: stage.sh ALIGN_JOBID JOBFILE NEXT_SCRIPT [sbatch's options]" >&2; exit 2; }
align=$1
job_file=$2
next=$3
shift 3

jobs=$("$here/pipeline.sh" --after "$align" "$job_file" "$@")
printf '%s\n' "$jobs"
verified=${jobs##* }
# shellcheck source=slurm/job_file.sh
. "$here/job_file.sh"
hardened=$(path_of output)
last=$(sbatch --parsable --dependency="afterok:$verified" --kill-on-invalid-dep=yes "$next" "$hardened")
printf 'next %s\n' "${last%%;*}"
