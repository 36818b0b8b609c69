#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What is refused before anything is built or run: unformatted code, commit subjects of more than 72 characters, and
# findings of clang-tidy (.clang-tidy) in all of src, a quarter of an hour on two idle cores.
#   bash tests/style.sh --quick     without clang-tidy
#   bash tests/style.sh --changed   clang-tidy only where this branch differs from main or, on main itself, from the
#                                   commit before. A changed header counts for the sources that include it.
#   bash tests/style.sh --recent    the same for the last 30 commits, which CI does: every source is checked when it
#                                   changes
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

# Sources that differ from a commit, and those that include a header that does.
changed_since() {
  local base=$1 header
  git diff --name-only --diff-filter=d "$base" -- 'src/*.cpp'
  while read -r header; do
    git grep -lF "\"${header#include/}\"" -- 'src/*.cpp' || true
  done < <(git diff --name-only --diff-filter=d "$base" -- 'include/*.hpp')
}

case ${1:-} in
  --quick) exit 0 ;;
  --changed)
    base=$(git merge-base HEAD main 2>/dev/null || true)
    if [ -z "$base" ] || [ "$base" = "$(git rev-parse HEAD)" ]; then base=HEAD~1; fi
    mapfile -t checked < <(changed_since "$base" | sort -u)
    ;;
  --recent)
    base=$(git rev-list -n 31 --first-parent HEAD | tail -n 1)
    mapfile -t checked < <(changed_since "$base" | sort -u)
    ;;
  *) mapfile -t checked < <(git ls-files 'src/*.cpp') ;;
esac
[ ${#checked[@]} -gt 0 ] || exit 0
build=${LOX_BUILD:-build/asan}
[ -f "$build/compile_commands.json" ] || cmake --preset asan >/dev/null
printf '%s\n' "${checked[@]}" | xargs -P "$(nproc)" -n 1 clang-tidy -p "$build" --quiet 2>/dev/null
