#!/bin/sh
# Runs a script on the right Node.js: sh scripts/with-node.sh SCRIPT [ARG ...]. OCISEAL_NODE=22 chooses Node.js 22.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
bin=$(sh "$root/scripts/runtime.sh" "${OCISEAL_NODE:-}")
PATH="$bin:$PATH"
export PATH
exec node --disable-warning=ExperimentalWarning "$@"
