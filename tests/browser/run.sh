#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Opens pages of `lox report --html` in a real browser, Debian's chromium, driven by playwright-core in the version of
# package-lock.json. Takes the program as LOX, else the newest build. Leaves screenshots in build/browser. Skips with a
# reason where one of them cannot be had.
#   bash tests/browser/run.sh --figure    makes docs/figures/page.png instead, of the trained pair in tests/data
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

skip() {
  echo "browser: skipped, $1"
  exit 0
}
tests=$PWD/tests/browser
lox=${LOX:-$(ls -t build/*/src/lox 2>/dev/null | head -n 1)}
[ -n "$lox" ] || { echo "browser: build lox first, or say LOX=..." >&2; exit 2; }
LOX=$(realpath "$lox")
BROWSER=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
  skip "there is no chromium (bash jobs/install.sh chromium)"
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then skip "there is no npm"; fi
PLACE=$PWD/build/browser
if ! cmp -s tests/browser/package-lock.json "$PLACE/package-lock.json"; then
  rm -rf "$PLACE"
  mkdir -p "$PLACE/new"
  cp tests/browser/package.json tests/browser/package-lock.json "$PLACE/new"
  (cd "$PLACE/new" && timeout 120 npm ci --ignore-scripts --no-audit --no-fund --prefer-offline --fetch-retries=0) \
    >"$PLACE/log" 2>&1 || skip "npm cannot get playwright-core: $(grep -m 1 -E 'code|network|request' "$PLACE/log")"
  mv "$PLACE"/new/* "$PLACE"
fi
rm -rf "$PLACE/work"
mkdir "$PLACE/work"
cd "$PLACE/work"
export LOX BROWSER PLACE OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1

if [ "${1:-}" = --figure ]; then
  data=$tests/../data
  "$LOX" factor --base "$data/base" --aligned "$data/aligned" --k 6 --output factors --quiet
  "$LOX" apply --aligned "$data/aligned" --factors factors --coef 0.25,0.5,1,1.25 --output 'hardened-{coef}' --quiet
  "$LOX" report hardened-0.25 hardened-0.5 hardened-1 hardened-1.25 --html page.html
  node "$tests/figure.mjs" page.html "$tests/../../docs/figures/page.png"
  exit
fi
for role in base aligned; do "$LOX" synth $role --shape tiny --role $role --quiet; done
"$LOX" factor --base base --aligned aligned --k 4 --output store --quiet
"$LOX" apply --aligned aligned --factors store --coef 0.25,0.5,1.25 --output 'hardened-{coef}' --quiet
if ! said=$("$LOX" report hardened-0.5 --html page.html 2>&1); then
  case $said in *"without pages"*) skip "$LOX was built without pages" ;; *) echo "$said" >&2; exit 1 ;; esac
fi
timeout 600 node --test "$tests/page_test.mjs"
