#!/usr/bin/env bash
# Runs the README's commands on fresh machines: minimal roots of Debian 12 and 13, with nothing in them but what
# debootstrap brings and `make`. As root `make demo`, `make demo-ml` and `make test`; as a plain user `make demo`, which
# first has to say what to install, then works out of the group docker, and in it; `make deb`, and `ops/install.sh` with the
# package (it stays in dist/fresh, for ops/check-service.sh). What is committed is tried, in a clean clone.
#
#   ops/check-fresh.sh                         as root; needs the package registries
#   FRESH_RELEASES=trixie ops/check-fresh.sh   only these
#   FRESH_TESTS=sample                         in place of all tests: one short module of each folder of tests
#   FRESH_TESTS="-m 'not slow' tests/unit"     in place of all tests: what pytest is given. `none`: no `make test`
#   FRESH_SCENARIOS=root                       only as root; or only as a plain `user`, or the `package`
#
# Each root has mounts, processes, a network and a Docker daemon of its own, which end with it: nothing of this machine's
# changes, but for the packages that this script itself needs.
set -euo pipefail

SELF=$(readlink -f "$0")
readonly SELF
readonly RELEASES=${FRESH_RELEASES:-bookworm trixie}
readonly TESTS=${FRESH_TESTS:-}

say() { printf '== %s\n' "$*"; }
complain() { printf '%s\n' "$*" >&2; }

# Inside of a root: $0 --inside ROOT SCENARIO ----------------------------------------------------------------------

enter() {  # $1: the root, which becomes this namespace's; nothing of the machine outside is visible any more
    mount --bind "$1" "$1"
    cd "$1"
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mount --rbind /sys/fs/cgroup sys/fs/cgroup
    mount --rbind /dev dev
    mount -t tmpfs -o mode=0755 tmpfs run
    mount -t tmpfs -o mode=1777 tmpfs tmp
    ip link set lo up
    until ip route | grep -q default; do sleep 0.1; done  # run_scenario makes it
    # The nodes are to find each other over mDNS, and nobody outside.
    iptables -t mangle -A POSTROUTING -o tap0 -d 224.0.0.0/4 -j DROP
    pivot_root . mnt  # a chroot would not do: runc wants to pivot too
    cd /
    umount --lazy /mnt
}

as_root() { env -i "${CARRIED[@]}" HOME=/root USER=root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

as_user() {  # with the PATH that Debian gives to a plain user
    setpriv --reuid someone --regid someone --init-groups --reset-env \
        env "${CARRIED[@]}" PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games "$@"
}

try() {  # $1: who and what, for the table; $2: what its output must have; the rest: the command
    local what=$1 wanted=$2 log=/fresh/$((++TRIED)).log started=$SECONDS result=ok
    shift 2
    say "$NAME, $what"
    "$@" >"$log" 2>&1 </dev/null || result="failed with $?"
    grep -q -- "$wanted" "$log" || result="$result, but it does not say: $wanted"
    printf '%-10s  %-62s  %5d s  %s\n' "$NAME" "$what" $((SECONDS - started)) "$result" >>/fresh/results
    if [ "$result" != ok ]; then
        tail -n 60 "$log" >&2
        complain "$NAME, $what: $result"
        return 1
    fi
}

inside() {  # $1: root; $2: scenario
    TRIED=0
    enter "$1"
    NAME="Debian $(sed -n "s/^VERSION_ID=\"\?\([^\"]*\)\"\?$/\1/p" /etc/os-release)"
    mapfile -d '' -t CARRIED </fresh/environment
    "scenario_$2"
}

scenario_root() {
    cd /root/nunet-dms
    try "root: make demo" "it answers; image" as_root make demo
    try "root: make demo, again" "it answers; image" as_root make demo
    try "root: the dashboards are built and served" "pages and scripts answer" as_root .venv/bin/python -c "$DASHBOARDS"
    try "root: make demo-ml" "digits are read rightly" as_root make demo-ml
    case "$TESTS" in
        none) ;;
        "") try "root: make test" " passed" as_root make test ;;
        sample) try "root: make test, a module of each folder" " passed" as_root make test PYTEST_ARGS="-n 2 $(sample | xargs)" ;;
        *) try "root: make test PYTEST_ARGS=\"$TESTS\"" " passed" as_root make test PYTEST_ARGS="$TESTS" ;;
    esac
}

# With what `make demo` has installed.
readonly DASHBOARDS='
import re, sys, httpx
from ops.nodes import run, start_node, wait_until_ready

def look(nodes, folder, executor):
    nodes.append(start_node("node", folder / "node", executor))
    wait_until_ready(nodes)
    page = httpx.get(nodes[0].url + "/dashboard/").raise_for_status().text
    files = re.findall("/dashboard/assets/[^\"]+", page)
    assert files, page
    for file in files:
        assert httpx.get(nodes[0].url + file).raise_for_status().content, file
    print("pages and scripts answer:", *files)

sys.exit(run(look, keep=False))'

sample() {  # of each folder of tests the smallest module, if it can be one without long tests
    find tests -name 'test_*.py' -not -path '*/node_modules/*' -printf '%s %p\n' | sort -n | cut -d' ' -f2 >/tmp/modules
    sed 's/^[0-9]* //; s/::.*//' tests/long_tests.txt >/tmp/long
    { grep -vxFf /tmp/long /tmp/modules; cat /tmp/modules; } | awk -F/ '{ folder = $0; sub("[^/]*$", "", folder) } !seen[folder]++'
}

scenario_user() {
    useradd --create-home --shell /bin/bash someone
    cp -a /root/nunet-dms /home/someone/
    chown -R someone: /home/someone/nunet-dms
    cd /home/someone/nunet-dms
    try "plain user: make demo says what to install" "Install them with:  sudo apt-get" says_what_to_install
    try "root: installs just that" "" as_root DEBIAN_FRONTEND=noninteractive bash -ec "$(cat /fresh/advice)"
    try "plain user out of group docker: make demo" "runs as a plain process" as_user make demo
    as_root dockerd >/fresh/dockerd.log 2>&1 </dev/null &
    until as_root docker version >/dev/null 2>&1; do kill -0 $!; sleep 0.2; done
    try "plain user out of group docker, with a daemon: make demo" "usermod -aG docker someone" as_user make demo
    usermod -aG docker someone
    try "plain user in group docker: make demo" "it answers; image" as_user make demo
}

scenario_package() {
    cd /root/nunet-dms
    try "root: make deb" "all is well" as_root DPKG_DEB_COMPRESSOR_LEVEL=1 make deb
    cp dist/nunet-dms_*.deb /fresh/
    try "root: ops/install.sh" "no systemd runs here" as_root ops/install.sh --no-questions
    try "plain user: the command it installed" "Device Management Service" as_user_of_the_package nunet --help
}

as_user_of_the_package() {
    useradd --create-home someone
    as_user "$@"
}

says_what_to_install() {
    local output
    if output=$(as_user make demo 2>&1); then
        complain "it should have ended with an error"
        return 1
    fi
    printf '%s\n' "$output"
    sed -n 's/^Install them with:  //p' <<<"$output" | sed 's/sudo //g' >/fresh/advice
}

# Outside ----------------------------------------------------------------------------------------------------------

install_tools() {
    local -a missing=()
    command -v debootstrap >/dev/null || missing+=(debootstrap)
    command -v slirp4netns >/dev/null || missing+=(slirp4netns)
    command -v iptables >/dev/null || missing+=(iptables)
    command -v ip >/dev/null || missing+=(iproute2)
    [ ${#missing[@]} -eq 0 ] && return
    say "installing ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
}

mirror() {  # the archive that this machine's apt uses for Debian itself
    # shellcheck disable=SC2016  # they are apt's
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Identifier: Packages' | sed -n 's/^Debian //p' | sed -n 1p
}

sources() {  # $1: a release; this machine's sources, for that release
    local here
    here=$(sed -n "s/^VERSION_CODENAME=//p" /etc/os-release)
    # shellcheck disable=SC2016  # they are apt's
    apt-get indextargets --format '$(LABEL) deb $(REPO_URI) $(RELEASE) main' 'Identifier: Packages' | sort -u \
        | sed -n 's/^Debian\(-Security\)\? deb/deb/p' | sed "s/ $here/ $1/"
}

carry_settings() {  # $1: a root. What this machine needs to reach the registries, whatever that is
    local path value
    apt-config dump | grep -E '^Acquire::(http|https|Check|Retries|ForceIPv)' >"$1/etc/apt/apt.conf.d/99carried" || true
    for path in /etc/resolv.conf /etc/apt/auth.conf /etc/apt/auth.conf.d /etc/pip.conf /etc/xdg/pip /etc/npmrc /usr/etc/npmrc \
        /etc/uv /usr/local/share/ca-certificates /etc/ssl/certs/ca-certificates.crt \
        "$HOME/.config/pip" "$HOME/.pip" "$HOME/.config/uv" "$HOME/.npmrc"; do
        copy_into "$1" "$path"
    done
    mkdir -p "$1/fresh"
    : >"$1/fresh/environment"
    while IFS= read -r -d '' value; do
        case "${value%%=*}" in
            PIP_* | UV_* | NPM_CONFIG_* | npm_config_* | *_proxy | *_PROXY | SSL_CERT_* | *_CA_BUNDLE | NODE_EXTRA_CA_CERTS)
                printf '%s\0' "$value" >>"$1/fresh/environment"
                [ ! -f "${value#*=}" ] || copy_into "$1" "${value#*=}"
                ;;
        esac
    done < <(env -0)
    printf 'LANG=C.UTF-8\0' >>"$1/fresh/environment"
}

copy_into() {  # $1: a root; $2: an absolute path, which may be none
    [ -e "$2" ] || return 0
    mkdir -p "$1$(dirname "$2")"
    cp -RL --preserve=mode "$2" "$1$(dirname "$2")/"
}

make_root() {  # $1: release; $2: the folder
    say "making a minimal root of $1"
    if ! unshare --mount debootstrap --variant=minbase --include=make,ca-certificates "$1" "$2" "$(mirror)" >"$WORK/debootstrap.log" 2>&1; then
        tail -n 20 "$WORK/debootstrap.log" >&2
        return 1
    fi
    sources "$1" >"$2/etc/apt/sources.list"
    carry_settings "$2"
    cp -a "$WORK/source" "$2/root/nunet-dms"
}

run_scenario() {  # $1: root folder; $2: scenario
    local root=$1 child slirp status=0
    unshare --mount --pid --net --fork --kill-child "$SELF" --inside "$root" "$2" &
    child=$!
    until [ "$(readlink "/proc/$child/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do kill -0 $child; sleep 0.05; done
    # A network without any change to this machine's: the packets become this process's own connections.
    slirp4netns --configure --mtu=65520 --disable-host-loopback $child tap0 >"$root/fresh/network.log" 2>&1 &
    slirp=$!
    wait $child || status=1
    kill $slirp 2>/dev/null || true
    wait $slirp 2>/dev/null || true
    return $status
}

remove_root() {  # $1; its containers' control groups outlive its processes
    local container
    for container in "$1"/var/lib/docker/containers/*/; do
        find /sys/fs/cgroup -depth -type d -path "*/$(basename "$container")*" -exec rmdir {} + 2>/dev/null || true
    done
    rm -rf --one-file-system "$1"
}

main() {
    local release scenario failed=0
    [ "$(id -u)" -eq 0 ] || { complain "as root, please: it makes roots and namespaces"; exit 1; }
    cd "$(dirname "$0")/.."
    [ -z "$(git status --porcelain)" ] || say "what is not committed is not tried"
    install_tools
    WORK=$(mktemp -d "${FRESH_FOLDER:-/var/tmp}/nunet-fresh-XXXXXX")
    trap 'jobs -p | xargs -r kill 2>/dev/null || true; rm -rf --one-file-system "$WORK"' EXIT
    git clone --quiet --no-hardlinks . "$WORK/source"
    mkdir -p dist/fresh
    rm -rf dist/fresh/*
    for release in $RELEASES; do
        make_root "$release" "$WORK/base"
        for scenario in ${FRESH_SCENARIOS:-root user package}; do
            cp -a "$WORK/base" "$WORK/root"
            run_scenario "$WORK/root" "$scenario" || failed=1
            cat "$WORK/root/fresh/results" >>"$WORK/results" 2>/dev/null || failed=1
            mkdir -p "dist/fresh/$release-$scenario"
            find "$WORK/root/fresh" \( -name '*.log' -o -name '*.deb' \) -exec cp -t "dist/fresh/$release-$scenario" {} +
            remove_root "$WORK/root"
        done
        remove_root "$WORK/base"
    done
    say "the result (output of each: dist/fresh)"
    cat "$WORK/results"
    return $failed
}

if [ "${1:-}" = --inside ]; then
    inside "$2" "$3"
else
    main
fi
