#!/bin/sh
# Installs exactly what package-lock.json names, once per lock file.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
PATH="$(sh scripts/runtime.sh):$PATH"
export PATH
stamp=node_modules/.ociseal-lock
if [ -f "$stamp" ] && cmp -s package-lock.json "$stamp"; then exit 0; fi
echo "installing dependencies (npm ci)" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! npm ci --ignore-scripts --no-audit --no-fund >"$log" 2>&1; then
  grep -v 'A complete log\|npm help' "$log" | head -n 12 >&2
  echo "error: npm ci failed" >&2
  echo "hint:  check the network and 'npm config get registry', then run make again" >&2
  exit 1
fi
cp package-lock.json "$stamp"
