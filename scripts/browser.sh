#!/usr/bin/env bash
# browser.sh [DIR]: tells the demo's story with 40 edges (EDGES; 0: all of the
# city), then drives the console in headless Chromium through one journey.
# Screenshots go to DIR, else to a temporary directory that is removed when the
# journey passes.
set -euo pipefail
cd "$(dirname "$0")/.."
die() { echo "browser: error: $*" >&2; exit 1; }
bin=${WARDNET_BIN_DIR:-bin}
[ -x "$bin/wardnet" ] && [ -x "$bin/wardnet-edge" ] || die "$bin/wardnet is missing; run 'make build'"
[ -d console/web/node_modules/playwright-core ] || die "the console's packages are missing; run 'make web'"
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
[ -n "$chromium" ] || die "Chromium is missing; run 'make deps'"
node=$(./scripts/node.sh)
"$node" --test --test-reporter=dot console/web/test/*.test.js || die "the console's unit tests failed"

tmp=$(mktemp -d)
shots=${1:-$tmp/shots}
pid=
tidy() {
  status=$?
  if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then
    kill -INT "$pid"
    wait "$pid" || true
  fi
  if [ $status -eq 0 ]; then rm -rf "$tmp"; else echo "browser: the demo's log and the screenshots are in $tmp" >&2; fi
}
trap tidy EXIT

"$bin/wardnet" demo --data "$tmp/d" --edges "${EDGES:-40}" --fault carrier=viettel,wards=5 --seed 3 >"$tmp/report" 2>"$tmp/demo.log" &
pid=$!
for _ in $(seq 1200); do
  grep -q 'sign in' "$tmp/demo.log" && break
  kill -0 "$pid" 2>/dev/null || { cat "$tmp/demo.log" >&2; die "the demo ended before its story was told"; }
  sleep 0.25
done
grep -q 'The story is told' "$tmp/demo.log" || { cat "$tmp/demo.log" >&2; die "the demo's story took over 5 minutes"; }

field() { sed -nE "s/$1/\1/p" "$tmp/demo.log" | head -1; }
WARDNET_CONSOLE=$(field '^ *console +(https:[^ ]+).*') \
WARDNET_USER=$(field '^ *sign in +([^,]+),.*') \
WARDNET_PASSWORD_FILE=$(field '^ *sign in .*password in (.*)$') \
WARDNET_CONTROL=$(field '^.*--control ([^ ]+) .*') \
WARDNET_BIN=$bin/wardnet WARDNET_SHOTS=$shots CHROMIUM=$chromium \
  "$node" console/web/e2e/journey.mjs
