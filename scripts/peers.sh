#!/bin/sh
# Puts the real programs that the interop tests talk to under .peers, from Debian's packages, without root:
# apt resolves and downloads each suite's closure into a private state folder, dpkg-deb unpacks it, and a wrapper
# starts each program with its own suite's loader and libraries. The mirror is the one apt is configured with.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
peers="$root/.peers"

skip() {
  echo "SKIPPED: $1; the interop tests will say which peers are missing" >&2
  exit 0
}
for tool in apt-get dpkg dpkg-deb; do
  command -v "$tool" >/dev/null 2>&1 || skip "$tool is not on this machine (peers come from Debian's packages)"
done
architecture=$(dpkg --print-architecture)
[ "$architecture" = amd64 ] || skip "peers are set up for amd64 only, this is $architecture"
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
  sed -n -e 's/^URIs: *\([^ ]*\).*/\1/p' -e 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*\) .*/\2/p' |
  grep -E '/debian/?$' | grep -v security | head -n 1)
[ -n "$mirror" ] || skip "no Debian mirror in apt's configuration"

# Peers that only work where Debian puts them: installed as system packages, by root alone.
system="attr chromium softhsm2 opensc openssl postgresql runc"
missing=""
for package in $system; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ] && [ "$(id -u)" = 0 ]; then
  echo "installing$missing" >&2
  apt-get -qq update >&2
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $missing >/dev/null
elif [ -n "$missing" ]; then
  echo "SKIPPED:$missing: only root can install them; the tests that need them will say so" >&2
fi

# suite, then the packages of which programs are used; what is there stays usable until the new set is whole
setup() {
  suite=$1
  shift
  wanted="$*"
  if [ -f "$peers/$suite/.done" ] && [ "$(cat "$peers/$suite/.done")" = "$wanted" ]; then return 0; fi
  echo "fetching peers from Debian $suite: $wanted" >&2
  target="$peers/$suite.new"
  rm -rf "$target"
  state="$target/.apt"
  mkdir -p "$state/lists/partial" "$state/archives/partial" "$state/etc" "$target"
  : >"$state/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$state/etc/sources.list"
  set -- -qq -o "Dir::State=$state" -o "Dir::State::status=$state/status" -o "Dir::Cache=$state" \
    -o "Dir::Etc::sourcelist=$state/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null \
    -o Dir::Etc::preferencesparts=/dev/null -o "Dir::State::lists=$state/lists" -o APT::Install-Recommends=false \
    -o APT::Sandbox::User= -o Debug::NoLocking=1 -o Acquire::Retries=3
  # shellcheck disable=SC2086
  if ! apt-get "$@" update >&2 || ! apt-get "$@" -y --download-only install $wanted >&2; then
    echo "error: could not fetch peers from Debian $suite" >&2
    echo "hint:  check the network and apt's mirror, then run make peers again" >&2
    exit 1
  fi
  for package in "$state"/archives/*.deb; do dpkg-deb -x "$package" "$target"; done
  rm -rf "$state" "$target/usr/share/doc" "$target/usr/share/man" "$target/usr/share/locale"
  printf '%s' "$wanted" >"$target/.done"
  rm -rf "$peers/$suite.old"
  if [ -d "$peers/$suite" ]; then mv "$peers/$suite" "$peers/$suite.old"; fi
  mv "$target" "$peers/$suite"
  rm -rf "$peers/$suite.old"
}

libraries=x86_64-linux-gnu

# name of the wrapper, suite, program
wrap() {
  program=$(cd "$peers/$2" && ls "usr/bin/$3" "usr/sbin/$3" 2>/dev/null | head -n 1)
  if [ -z "$program" ]; then
    echo "error: Debian $2 did not bring $3" >&2
    exit 1
  fi
  cat >"$peers/bin.new/$1" <<EOF
#!/bin/sh
self=\$(readlink -f -- "\$0")
r=\$(dirname -- "\$(dirname -- "\$self")")/$2
l="\$r/lib/$libraries/ld-linux-x86-64.so.2"
[ -x "\$l" ] || l="\$r/usr/lib/$libraries/ld-linux-x86-64.so.2"
exec "\$l" --library-path "\$r/usr/lib/$libraries:\$r/lib/$libraries" "\$r/$program" "\$@"
EOF
  chmod 755 "$peers/bin.new/$1"
}

# The same for a program that starts itself again through /proc/self/exe (podman and buildah do, to unpack): with a
# loader in front that would be the loader, so a copy names it. Not the libraries: patchelf breaks Go programs there.
wrap_native() {
  loader="$peers/$2/lib/$libraries/ld-linux-x86-64.so.2"
  [ -x "$loader" ] || loader="$peers/$2/usr/lib/$libraries/ld-linux-x86-64.so.2"
  copy="$peers/$2/native/$3"
  if [ "$(cat "$copy.loader" 2>/dev/null)" != "$loader" ]; then
    mkdir -p "$peers/$2/native"
    "$peers/bin.new/patchelf" --set-interpreter "$loader" --output "$copy" "$peers/$2/usr/bin/$3"
    chmod 755 "$copy"
    printf '%s' "$loader" >"$copy.loader"
  fi
  cat >"$peers/$2/native/containers.conf" <<EOF
[engine]
conmon_path = ["$peers/$2/usr/bin/conmon"]
helper_binaries_dir = ["$peers/$2/usr/lib/podman"]
cgroup_manager = "cgroupfs"
events_logger = "none"
EOF
  cat >"$peers/bin.new/$1" <<EOF
#!/bin/sh
export LD_LIBRARY_PATH="$peers/$2/usr/lib/$libraries:$peers/$2/lib/$libraries"
export CONTAINERS_CONF="$peers/$2/native/containers.conf"
exec "$copy" "\$@"
EOF
  chmod 755 "$peers/bin.new/$1"
}

setup bookworm skopeo umoci docker-registry crun runc buildah podman containerd prometheus busybox-static debootstrap
setup trixie skopeo cosign buildah podman imgcrypt patchelf oras opensc libnss3-tools kubectl
setup sid skopeo cosign oras opensc libnss3
rm -rf "$peers/bin.new"
mkdir -p "$peers/bin.new"
wrap skopeo-1.9 bookworm skopeo
wrap umoci bookworm umoci
wrap docker-registry bookworm docker-registry
wrap crun bookworm crun
wrap runc bookworm runc
wrap promtool bookworm promtool
wrap prometheus bookworm prometheus
wrap skopeo-1.18 trixie skopeo
wrap cosign-2.5 trixie cosign
wrap skopeo-1.22 sid skopeo
wrap cosign-3.1 sid cosign
wrap oras-1.2 trixie oras
wrap oras-1.3 sid oras
wrap containerd-1.6 bookworm containerd
wrap ctr-1.6 bookworm ctr
wrap ctr-imgcrypt trixie ctr-imgcrypt
wrap patchelf trixie patchelf
wrap kubectl trixie kubectl
wrap pkcs11-tool-0.26 trixie pkcs11-tool
wrap pkcs11-tool-0.27 sid pkcs11-tool
wrap certutil trixie certutil
# A token that does RSA-OAEP with SHA-256, which SoftHSM does not: NSS, which takes its settings from the environment (3.110 does, 3.87 does not).
for suite in trixie sid; do ln -s "../$suite/usr/lib/$libraries/libsoftokn3.so" "$peers/bin.new/libsoftokn3-$suite.so"; done
wrap_native buildah-1.28 bookworm buildah
wrap_native podman-4.3 bookworm podman
wrap_native buildah-1.39 trixie buildah
wrap_native podman-5.4 trixie podman
rm -rf "$peers/bin"
mv "$peers/bin.new" "$peers/bin"
sh "$root/scripts/debian-root.sh" "$peers/images/debian.tar" "$mirror"
echo "peers are in .peers/bin: $(cd "$peers/bin" && echo *)" >&2
