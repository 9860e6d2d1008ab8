#!/usr/bin/env bash
# fuzz.sh TIME: runs every fuzz target of the module for TIME, one after another.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:?usage: scripts/fuzz.sh TIME}
grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r f; do
  pkg=$(dirname "$f")
  grep -oE '^func Fuzz[A-Za-z0-9_]+' "$f" | awk '{print $2}' | while read -r fn; do
    echo "== $pkg $fn"
    go test "$pkg" -run '^$' -fuzz "^$fn\$" -fuzztime "$time"
  done
done
