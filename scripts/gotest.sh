#!/usr/bin/env bash
# gotest.sh FLAGS… PACKAGES…: go test that says every skipped test aloud, which
# go test alone does only when asked for everything. The whole log is in
# .cache/test.log; of a failure all but the start lines is printed.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p .cache
log=.cache/test.log
"${GO:-go}" test -v "$@" 2>&1 | tee "$log" | grep -a --line-buffered -E '^(ok|FAIL|panic:)|^ *--- FAIL'
code=${PIPESTATUS[0]}
if [ "$code" -ne 0 ]; then
  grep -avE '^ *(=== (RUN|PAUSE|CONT|NAME)|--- PASS)|^PASS$|\[rapid\] OK' "$log"
fi
awk '
  /^ *=== (RUN|CONT|NAME)/ { test = $3; next }
  /^ *--- SKIP/ { skipped++; said = said $3 " " $4 "\n" reason[$3]; next }
  /^ *--- / { delete reason[$3]; next }
  /^ +[^ ]+_test\.go:[0-9]+: / { reason[test] = reason[test] $0 "\n" }
  END {
    if (!skipped) { print "no test was skipped"; exit }
    print "NOT RUN HERE: " skipped " tests were skipped, for these reasons:"
    printf "%s", said
  }' "$log"
exit "$code"
