#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What is refused before anything is built or run: unformatted code, findings of clang-tidy (.clang-tidy, a quarter of an hour on
# two idle cores), commit subjects of more than 72 characters.  bash tests/style.sh [--quick]: without clang-tidy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mapfile -t sources < <(git ls-files 'src/*.cpp' 'include/*.hpp' 'tests/*.cpp' 'tests/*.hpp')
clang-format --dry-run --Werror "${sources[@]}"

# Subjects from before this rule are as they are.
since=ba7f473
long=$(git log --format='%h %s' $since..HEAD | awk '{ line = $0; sub(/^[^ ]+ /, ""); if (length($0) > 72) print line }')
if [ -n "$long" ]; then
  printf 'commit subjects of more than 72 characters:\n%s\n' "$long" >&2
  exit 1
fi

[ "${1:-}" = --quick ] && exit 0
build=${LOX_BUILD:-build/ci}
[ -f "$build/compile_commands.json" ] || cmake --preset ci
printf '%s\n' "${sources[@]}" | grep '^src/.*\.cpp$' |
  xargs -P "$(nproc)" -n 4 clang-tidy -p "$build" --quiet 2>/dev/null
