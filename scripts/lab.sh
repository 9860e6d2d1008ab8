#!/usr/bin/env bash
# lab.sh: brings up the real lab, 2 hubs and 2 wards in network namespaces,
# compares packets with the intent, plays one failover, and takes it down. What
# it cannot run here it says aloud.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${WARDNET_BIN_DIR:-bin}
[ -x "$bin/wardnet" ] && [ -x "$bin/wardnet-edge" ] || { echo "lab: error: $bin/wardnet is missing; run 'make build'" >&2; exit 1; }
if [ "$(id -u)" != 0 ] || [ ! -c /dev/net/tun ] || ! unshare -n true 2>/dev/null; then
  echo "lab: NOT RUN: it needs root, network namespaces and /dev/net/tun; nothing of the real lab was tested" >&2
  exit 0
fi
dir=$(mktemp -d)
# The names are this run's own, so that neither a lab that is up nor a run that
# was killed stands in its way; what killed runs left, and nothing lives in, goes.
prefix=t$$
for ns in $(ip netns list | grep -oE '^t[0-9]+-[^ ]+' || true); do
  owner=${ns%%-*}
  [ -d "/proc/${owner#t}" ] || [ -n "$(ip netns pids "$ns")" ] || ip netns delete "$ns" || true
done
tidy() {
  status=$?
  if grep -l "DATA RACE" "$dir"/lab/run/*.log 2>/dev/null; then # of a process that nobody waits for
    echo "lab: error: a data race in the logs above" >&2
    status=1
  fi
  if [ $status -ne 0 ]; then
    for f in "$dir"/lab/run/*.log; do [ -e "$f" ] && { echo "== ${f##*/}"; tail -n 15 "$f"; }; done >&2
  fi
  "$bin/wardnet" lab down --dir "$dir/lab" &>/dev/null || status=1
  rm -rf "$dir"
  exit $status
}
trap tidy EXIT
"$bin/wardnet" lab up --hubs 2 --wards 2 --prefix "$prefix" --dir "$dir/lab"
"$bin/wardnet" lab probe --dir "$dir/lab"
# Outages are held to their limits by accept PART=B, on a quiet machine.
"$bin/wardnet" lab run failover-hub --slack 10 --dir "$dir/lab"
