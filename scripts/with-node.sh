#!/bin/sh
# Runs a script on the right Node.js: sh scripts/with-node.sh SCRIPT [ARG ...]
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
bin=$(sh "$root/scripts/runtime.sh")
PATH="$bin:$PATH"
export PATH
exec node --disable-warning=ExperimentalWarning "$@"
