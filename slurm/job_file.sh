# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# What the scripts beside it read in a job file, as lox reads it. To be sourced where $job_file names the file.
job_file=${job_file:?}

# The text with ~ at its beginning and $NAME or ${NAME} in it replaced, as lox does it with paths.
expanded() {
  local text=$1 done='' name
  # shellcheck disable=SC2016  # meant as it stands
  if [[ $text == \~[!/]* || $text == *'$('* || $text =~ \$\{([^}A-Za-z_]|[A-Za-z_][A-Za-z_0-9]*[^}A-Za-z_0-9])[^}]*\} ]]; then
    printf "%s: '%s': only ~/, \$NAME and \${NAME} are replaced in a job file, which no shell reads\n" "$job_file" "$text" >&2
    return 2
  fi
  if [[ $text == \~ || $text == \~/* ]]; then done=$HOME text=${text:1}; fi
  while [[ $text =~ ^([^$]*)\$(\{([A-Za-z_][A-Za-z_0-9]*)\}|([A-Za-z_][A-Za-z_0-9]*))(.*)$ ]]; do
    name=${BASH_REMATCH[3]}${BASH_REMATCH[4]}
    [ -n "${!name+set}" ] || { printf '%s: $%s is not set\n' "$job_file" "$name" >&2; return 2; }
    done+=${BASH_REMATCH[1]}${!name} text=${BASH_REMATCH[5]}
  done
  printf '%s\n' "$done$text"
}

# The values of a key, one a line.
values() {
  sed -n "s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*\([^#]*\).*/\1/p" "$job_file" | sed 's/[[:space:]]*$//'
}

# The path that a key names, without a slash at its end; nothing if there is none.
path_of() {
  local found
  found=$(values "$1" | head -n 1)
  found=$(expanded "$found") || return
  printf '%s\n' "${found%/}"
}
