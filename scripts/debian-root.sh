#!/bin/sh
# usage: debian-root.sh OUT.tar MIRROR [PACKAGE,PACKAGE…]
# A small Debian root as a tar, by debootstrap, as root alone. Made once: what is there is kept. Tests and benchmarks
# unpack images of it.
set -eu
out=$1
mirror=$2
include=${3:-}
peers=$(CDPATH='' cd -- "$(dirname -- "$0")/../.peers" && pwd)

skip() {
  echo "SKIPPED: $1; tests with a Debian root will say so" >&2
  exit 0
}
[ ! -f "$out" ] || exit 0
[ "$(id -u)" = 0 ] || skip "only root can make a Debian root"
debootstrap="$peers/bookworm/usr/sbin/debootstrap"
[ -f "$debootstrap" ] || skip "debootstrap is not among the peers"

echo "making a Debian root${include:+ with $include}" >&2
mkdir -p "$(dirname -- "$out")"
work=$(mktemp -d "$out.XXXXXX")
# debootstrap leaves mounts behind when it fails.
cleanup() {
  umount "$work/root/proc" "$work/root/sys" 2>/dev/null || true
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM
if ! DEBOOTSTRAP_DIR="$peers/bookworm/usr/share/debootstrap" sh "$debootstrap" --variant=minbase ${include:+"--include=$include"} \
  --keyring=/usr/share/keyrings/debian-archive-keyring.gpg bookworm "$work/root" "$mirror" >"$work/log" 2>&1; then
  tail -n 5 "$work/log" >&2
  echo "error: debootstrap failed" >&2
  exit 1
fi
tar -C "$work/root" --format=pax --numeric-owner --sort=name --xattrs --xattrs-include='*' --one-file-system \
  --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' --exclude='./proc/*' --exclude='./sys/*' -cf "$work/tar" .
mv "$work/tar" "$out"
