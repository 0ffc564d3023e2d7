#!/bin/sh
# The quick install: finds or builds the Debian package, installs it, and says what comes next. As root, or with sudo.
#
#   ops/install.sh                     the newest package in dist/; without one it is built (some minutes)
#   ops/install.sh --package FILE      this package
#   ops/install.sh --build             built anew, whatever is in dist/
#   ops/install.sh --no-questions      installs only; else, at a terminal, it offers to onboard the machine
#
# Works with a plain sh, and when it is piped into one.
set -eu

say() { printf '== %s\n' "$*"; }
fail() { printf 'install: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
usage() {
    cat <<'TEXT'
usage: ops/install.sh [--package FILE | --build] [--no-questions]

Installs the Debian package nunet-dms: FILE, else the newest in dist/, else one that is built now.

Example:
  ops/install.sh --package dist/nunet-dms_0.1.0_amd64.deb --no-questions
TEXT
}

package='' build=no questions=yes
while [ $# -gt 0 ]; do
    case "$1" in
        --package)
            [ $# -ge 2 ] || fail "--package needs a file; see --help"
            package=$2
            shift
            ;;
        --package=*) package=${1#*=} ;;
        --build) build=yes ;;
        --no-questions) questions=no ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; fail "unknown argument: $1" ;;
    esac
    shift
done
[ -z "$package" ] || [ "$build" = no ] || fail "--package and --build do not go together"

if ! have apt-get || ! have dpkg; then
    fail "this is for Debian and Ubuntu; elsewhere run from source: make demo, then .venv/bin/nunet run"
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=''
elif have sudo; then
    as_root=sudo
else
    fail "run this as root, or install sudo"
fi

# --- the package ------------------------------------------------------------------------------------------------
arch=$(dpkg --print-architecture)
# Piped into sh, $0 is the shell's name: then there is no checkout to build from.
top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." 2>/dev/null && pwd) || top=''
[ -n "$top" ] && [ -f "$top/ops/build-deb.sh" ] || top=''

python_here() { LC_ALL=C apt-cache policy python3 2>/dev/null | sed -n 's/^ *Candidate: \([0-9]*\.[0-9]*\).*/\1/p'; }
python_of() { dpkg-deb --field "$1" Depends | sed -n 's/.*python3 (>= \([0-9.]*\)~).*/\1/p'; }
of_this_release() { # or nobody can tell
    wanted=$(python_of "$1") here=$(python_here)
    [ -z "$wanted" ] || [ -z "$here" ] || [ "$wanted" = "$here" ]
}

newest() { # of dist/, for this machine; a name may have no blank, as dpkg makes it
    found=''
    for each in "$top"/dist/nunet-dms_*_"$arch".deb; do
        [ -f "$each" ] || continue
        of_this_release "$each" || continue
        if [ -z "$found" ] || dpkg --compare-versions "$(version "$each")" gt "$(version "$found")"; then
            found=$each
        fi
    done
    printf '%s' "$found"
}
version() { dpkg-deb --field "$1" Version; }

if [ -z "$package" ]; then
    [ -n "$top" ] || fail "no package was named, and this is no checkout to build one from: give --package FILE"
    [ "$build" = yes ] || package=$(newest)
    if [ -z "$package" ]; then
        say "building the package"
        # Root does what only root can: the rest of the checkout stays this user's.
        [ -z "$as_root" ] || (cd "$top" && $as_root ops/setup.sh deb-packages)
        (cd "$top" && ops/setup.sh deb)
        package=$top/$(cd "$top" && ops/build-deb.sh)
    fi
fi
[ -f "$package" ] || fail "there is no file $package"
[ "$(dpkg-deb --field "$package" Package 2>/dev/null)" = nunet-dms ] || fail "$package is not a package of nunet-dms"
case "$(dpkg-deb --field "$package" Architecture)" in
    "$arch" | all) ;;
    *) fail "$package is for $(dpkg-deb --field "$package" Architecture); this machine is $arch" ;;
esac
of_this_release "$package" ||
    fail "$package is for a release with Python $wanted; this one has $here: build one here (--build)"
package=$(CDPATH='' cd -- "$(dirname -- "$package")" && pwd)/$(basename -- "$package")

say "installing $package ($(version "$package"))"
# apt waits for another program that installs; a changed settings file is kept.
$as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef \
    -o Dpkg::Options::=--force-confold install -y "$package" </dev/null ||
    fail "apt could not install it; if packages are unknown to it, run 'apt-get update' and try again"

# --- the service ------------------------------------------------------------------------------------------------
running=no
if [ -d /run/systemd/system ]; then
    state=$(systemctl show --property=SubState --value nunet-dms 2>/dev/null || echo unknown)
    say "the service nunet-dms is $state"
    [ "$state" = running ] && running=yes
else
    say "no systemd runs here, so the service was not started; start the daemon with: nunet run --config /etc/nunet/dms_config.json"
fi

# --- onboarding -------------------------------------------------------------------------------------------------
# Asked at the terminal even where this script came through a pipe.
yes_to() {
    printf '%s [y/N] ' "$1" >/dev/tty
    read -r answer </dev/tty || answer=''
    case "$answer" in [yY] | [yY][eE][sS]) return 0 ;; *) return 1 ;; esac
}
if [ "$questions" = yes ] && [ "$running" = yes ] && (: </dev/tty >/dev/tty) 2>/dev/null; then
    if yes_to "Offer a part of this machine to the network now?"; then
        if ! yes_to "Do you have a payment address (Cardano or Ethereum)?"; then
            if yes_to "Make a new Cardano wallet?"; then
                nunet wallet new --cardano --network mainnet </dev/tty
            elif yes_to "Make a new Ethereum wallet?"; then
                nunet wallet new --ethereum </dev/tty
            fi
        fi
        nunet capacity --full
        # Only root, and the group nunet, may.
        $as_root nunet onboard --nunet-channel nunet-test </dev/tty ||
            say "not onboarded; try again with: ${as_root:+sudo }nunet onboard"
    fi
fi

if [ -n "$as_root" ] && ! id -nG | tr ' ' '\n' | grep -qx nunet; then
    say "to use the DMS without sudo: sudo adduser $(id -un) nunet, then log in anew; until then, sudo nunet ..."
fi
cat <<'TEXT'

Next:
  nunet onboard                  offer a part of this machine (compute provider)
  nunet job run job.json --wait  have a job run elsewhere (service provider)
  nunet --help                   all commands; man nunet has examples
  journalctl -u nunet-dms        what the daemon says
TEXT
