#!/usr/bin/env bash
# web.sh builds the console (Svelte, Vite) into console/static, where the Go
# binary embeds it. Nothing is rebuilt when no source is newer.
set -euo pipefail
cd "$(dirname "$0")/../console/web"
out=../static
if [ -f $out/index.html ] && [ -z "$(find . -path ./node_modules -prune -o -type f -newer $out/index.html -print -quit)" ]; then
  exit 0
fi
if ! command -v npm >/dev/null; then
  echo "web: npm is missing: the binary will show a page that says so instead of the console; 'make deps' installs it" >&2
  exit 0
fi
node=$(../../scripts/node.sh)
if [ ! -d node_modules ] || [ package-lock.json -nt node_modules ]; then
  PATH="$(dirname "$node"):$PATH" npm ci --silent --no-audit --no-fund
  touch node_modules
fi
PATH="$(dirname "$node"):$PATH" "$node" node_modules/vite/bin/vite.js build --logLevel warn
touch $out/index.html
