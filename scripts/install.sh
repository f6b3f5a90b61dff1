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
mkdir -p .tools
log=.tools/install.$$.log
trap 'rm -f "$log"' EXIT
# Nothing is written outside this folder, so npm keeps here too what it fetched: a second try goes on from there.
own_cache=.tools/npm-cache
npm_config_cache=${npm_config_cache:-$root/$own_cache}
export npm_config_cache
if ! npm ci --ignore-scripts --no-audit --no-fund >"$log" 2>&1; then
  grep -v 'A complete log\|npm help' "$log" | head -n 12 >&2
  echo "error: npm ci failed" >&2
  echo "hint:  check the network and 'npm config get registry', then run make again" >&2
  exit 1
fi
rm -rf "$own_cache"
cp package-lock.json "$stamp"
