#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Submits  harden -> verify  as a chain of jobs, each after the good end of the one before:
#
#   slurm/pipeline.sh [--after JOBID] [--hdf5 | --coef C,..] [--dry-run] JOBFILE [sbatch's options]
#
# Prints a line "NAME JOBID" for each job; the last one is the one to wait for. sbatch's options go to every job (the
# account, nodes, tasks); so do the variables that harden.sbatch names.
#
#   --after JOBID   start after the good end of that job, e.g. the one that writes the aligned checkpoint
#   --hdf5          by way of HDF5: base and aligned are converted unless they are HDF5, the result is verified against the
#                   originals and converted to the job file's output
#   --coef C,..     factor -> verify -> apply -> verify: one solution, and a model for each coef, {coef} in the name of the
#                   job file's output standing for it. The job file's own coef is left aside
#   --dry-run       print the commands
#
# LOX_WORK is the folder of those HDF5 files, or of the store of factors and the job files of both stages (default:
# OUTPUT.work, `all` for {coef}). It stays; remove it when you are content.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

refuse() { printf 'pipeline.sh: %s\n' "$*" >&2; exit 2; }

after=
hdf5=0
coefs=
dry_run=0
while [ $# -gt 0 ]; do
  case $1 in
    --after) [ $# -gt 1 ] || refuse "--after which job?"; after=$2; shift 2 ;;
    --hdf5) hdf5=1; shift ;;
    --coef) [ $# -gt 1 ] || refuse "--coef which values?"; coefs=$2; shift 2 ;;
    --dry-run) dry_run=1; shift ;;
    -h | --help) sed -n '4,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) refuse "$1 is not an option; sbatch's options come after JOBFILE" ;;
    *) break ;;
  esac
done
[ $# -ge 1 ] || refuse "which job file? pipeline.sh JOBFILE [sbatch's options]"
job_file=$1
shift
[ -r "$job_file" ] || refuse "$job_file: cannot read the job file"
sbatch_options=("$@")

# shellcheck source=slurm/job_file.sh
. "$here/job_file.sh"
path() {
  local found
  found=$(path_of "$1") || exit
  [ -n "$found" ] || refuse "$job_file: no $1"
  printf '%s\n' "$found"
}
is_hdf5() { case $1 in *.h5 | *.hdf5) return 0 ;; *) return 1 ;; esac; }

# The number as lox writes it in a name: shortest, so 0.50 is 0.5. Of plain decimals that is a matter of zeros.
name_of_coef() {
  local whole fraction=
  [[ $1 =~ ^([0-9]+)(\.([0-9]*))?$ || $1 =~ ^()(\.([0-9]+))$ ]] ||
    refuse "--coef: $1 is no plain decimal number, such as 0.5"
  whole=${BASH_REMATCH[1]} fraction=${BASH_REMATCH[3]}
  while [[ $whole == 0?* ]]; do whole=${whole#0}; done
  while [[ $fraction == *0 ]]; do fraction=${fraction%0}; done
  [ $((${#whole} + ${#fraction})) -le 15 ] || refuse "--coef: $1 has more than 15 digits"
  [[ ${whole:-0} != 0 || -z $fraction || $fraction != 0000* ]] || refuse "--coef: $1 is below 0.0001"
  printf '%s\n' "${whole:-0}${fraction:+.$fraction}"
}

# submit NAME AFTER SCRIPT ARGUMENT...: AFTER is a list of job ids with colons, or empty. Leaves the job's id in $id.
count=0
submit() {
  local name=$1 dependency=$2
  shift 2
  local command=(sbatch --parsable "--job-name=lox-$name" ${sbatch_options[@]+"${sbatch_options[@]}"})
  if [ -n "$dependency" ]; then command+=("--dependency=afterok:$dependency" --kill-on-invalid-dep=yes); fi
  command+=("$@")
  count=$((count + 1))
  if [ $dry_run -eq 1 ]; then
    id="JOB$count"
    printf '%q ' "${command[@]}"
    printf '   # %s\n' "$id"
  else
    id=$("${command[@]}")
    id=${id%%;*}
    printf '%s %s\n' "$name" "$id"
  fi
}

base=$(path base)
aligned=$(path aligned)
output=$(path output)
report=$(path_of report)
work=${LOX_WORK:-${output//\{coef\}/all}.work}

if [ -n "$coefs" ]; then
  [ $hdf5 -eq 0 ] || refuse "--hdf5 and --coef: one at a time; a store and its models are HDF5 where their names end in .h5"
  case $output in *'{coef}'*) ;; *) refuse "$job_file: no {coef} in output" ;; esac
  factors=$work/factors.h5
  names=()
  for coef in ${coefs//,/ }; do
    name=$(name_of_coef "$coef") || exit
    names+=("$name")
  done
  if [ $dry_run -eq 0 ]; then
    mkdir -p "$work"
    { sed -E '/^[[:space:]]*(coef|output|report)[[:space:]]*=/d' "$job_file"; printf 'output = %s\n' "$factors"; } >"$work/factor.ini"
    { sed -nE '/^[[:space:]]*(memory|time-limit|recheck|overwrite|quiet)[[:space:]]*=/p' "$job_file"
      printf '%s = %s\n' aligned "$aligned" factors "$factors" output "$output" coef "$coefs"; } >"$work/apply.ini"
  fi
  submit factor "$after" "$here/harden.sbatch" factor "$work/factor.ini"
  submit verify-factors "$id" "$here/run.sbatch" verify --base "$base" --aligned "$aligned" --factors "$factors"
  submit apply "$id" "$here/harden.sbatch" apply "$work/apply.ini"
  for coef in "${names[@]}"; do
    submit "verify-$coef" "$id" "$here/run.sbatch" verify --aligned "$aligned" --factors "$factors" \
      --hardened "${output//\{coef\}/$coef}" --coef "$coef"
  done
  exit
fi

checks=()
for key in k coef include exclude; do
  while IFS= read -r line; do checks+=("--$key" "$line"); done < <(values "$key")
done

ready=$after
from_base=$base
from_aligned=$aligned
hardened=$output
if [ $hdf5 -eq 1 ]; then
  [ $dry_run -eq 1 ] || mkdir -p "$work"
  for role in base aligned; do
    path=${!role}
    is_hdf5 "$path" && continue
    declare "from_$role=$work/$role.h5"
    submit "convert-$role" "$after" "$here/run.sbatch" convert --overwrite "$path" "$work/$role.h5"
    ready=${ready:+$ready:}$id
  done
  is_hdf5 "$output" || hardened=$work/hardened.h5
fi
submit harden "$ready" "$here/harden.sbatch" "$job_file" --base "$from_base" --aligned "$from_aligned" \
  --output "$hardened" --report "${report:-$output.report.json}"
submit verify "$id" "$here/run.sbatch" verify --base "$base" --aligned "$aligned" --hardened "$hardened" ${checks[@]+"${checks[@]}"}
if [ "$hardened" != "$output" ]; then
  submit convert-back "$id" "$here/run.sbatch" convert "$hardened" "$output"
fi
