#!/usr/bin/env bash
# Prepares a fresh Debian or Ubuntu machine; safe to run again, and quick when there is nothing to do.
#
#   ops/setup.sh venv         only .venv with the locked packages
#   ops/setup.sh demo         also what the demo can use; goes on without Docker
#   ops/setup.sh test         also all that the tests need; lists what is missing and exits 1
#   ops/setup.sh deb          also what the Debian package is built and checked with
#   ops/setup.sh stop-docker  ends the Docker daemon that this script started
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VENV=.venv
readonly STAMP=$VENV/stamp
readonly LOGS=$VENV/log
readonly DOCKER_PID=/run/nunet-dms-dockerd.pid
readonly DOCKER_LOG=/var/log/nunet-dms-dockerd.log

say() { printf '== %s\n' "$*"; }
complain() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" -eq 0 ]; }
docker_answers() { have docker && timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# Debian packages --------------------------------------------------------------------------------------------------

python() {  # the newest suitable interpreter on the PATH
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if have "$name" && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

can_make_venv() { local py; py=$(python) && "$py" -c 'import ensurepip, venv' 2>/dev/null; }

can_compile() {  # some packages come without a wheel for each machine
    have gcc && "$(python || echo false)" -c \
        'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null
}

missing_packages() {  # $1: venv, demo or test; one package name a line
    can_make_venv || echo python3-venv
    if ! can_compile; then
        printf '%s\n' gcc libc6-dev python3-dev
    fi
    [ "$1" = venv ] && return
    docker_answers || have dockerd || echo docker.io  # a client alone runs nothing
    have iptables || echo iptables
    have ip || echo iproute2
    have busybox || echo busybox-static
    [ "$1" = test ] || return 0
    have node || echo nodejs
    have npm || echo npm
    have chromium || echo chromium  # opens the API's page
    # the shells that complete `nunet`, and readers of its manual that find faults
    local tool
    for tool in zsh fish mandoc; do
        have "$tool" || echo "$tool"
    done
    have man || echo man-db
}

missing_for_deb() {
    have dh || echo debhelper
    have dpkg-buildpackage || echo dpkg-dev
    have lintian || echo lintian
    have fakeroot || echo fakeroot
    have systemd-analyze || echo systemd
    [ -x /usr/bin/python3 ] || echo python3
    /usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    have unshare || echo util-linux
}

install_packages() {  # $1: venv, demo, test or deb
    local -a missing
    mapfile -t missing < <(if [ "$1" = deb ]; then missing_for_deb; else missing_packages "$1"; fi)
    [ "${#missing[@]}" -gt 0 ] || return 0
    if ! is_root || ! have apt-get; then
        complain "These Debian packages are missing: ${missing[*]}"
        complain "Install them with:  sudo apt-get update && sudo apt-get install -y ${missing[*]}"
        [ "$1" = demo ] && can_make_venv && return 0
        exit 1
    fi
    say "installing Debian packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-update apt-get update
    # The Docker package starts its own daemon where there is systemd; without it we start one below.
    quietly apt-install apt-get install -y --no-install-recommends "${missing[@]}"
}

quietly() {  # $1: name of the log; the rest: the command. Its output is shown only when it fails
    local log started=$SECONDS
    mkdir -p "$LOGS"
    log=$LOGS/$1.log
    shift
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 40 "$log" >&2
        complain "failed: $* (all of its output: $log)"
        exit 1
    fi
    [ $((SECONDS - started)) -lt 5 ] || say "done after $((SECONDS - started)) s"
}

# Python packages --------------------------------------------------------------------------------------------------

make_venv() {
    local wanted py
    if ! py=$(python); then
        complain "Python 3.11 or newer is needed; this machine has $(python3 --version 2>&1 || echo none)"
        exit 1
    fi
    wanted=$(cat requirements.lock pyproject.toml | sha256sum)
    if [ -x $VENV/bin/nunet ] && [ "$(cat $STAMP 2>/dev/null)" = "$wanted" ]; then
        touch $STAMP  # make compares times
        return
    fi
    [ -x $VENV/bin/python ] || quietly_venv "$py"
    say "installing $(grep -c == requirements.lock) Python packages, one to three minutes"
    quietly pip-lock $VENV/bin/python -m pip install --no-input --disable-pip-version-check \
        --require-hashes -r requirements.lock
    quietly pip-self $VENV/bin/python -m pip install --no-input --disable-pip-version-check \
        --no-deps --no-build-isolation -e .
    # Where PYTHONDONTWRITEBYTECODE forbids it later, each start would compile our modules anew.
    $VENV/bin/python -m compileall -q dms projections ops
    printf '%s' "$wanted" >$STAMP
}

quietly_venv() {
    say "making $VENV with $("$1" --version)"
    "$1" -m venv $VENV
}

# Node packages ----------------------------------------------------------------------------------------------------

install_node_packages() {  # of each lock file of the tests: a js-libp2p peer, an Ethereum node
    local lock stamp
    for lock in tests/fixtures/*/package-lock.json; do
        stamp=$(dirname "$lock")/node_modules/.installed-$(sha256sum "$lock" | cut -d' ' -f1)
        [ -e "$stamp" ] && continue
        say "installing the Node packages of $(dirname "$lock")"
        quietly npm-ci npm ci --prefix "$(dirname "$lock")" --no-audit --no-fund --ignore-scripts
        touch "$stamp"
    done
}

# Docker -----------------------------------------------------------------------------------------------------------

start_docker() {  # true when a daemon answers in the end
    docker_answers && return
    have dockerd && is_root || return 1
    if [ -f "$DOCKER_PID" ] && kill -0 "$(cat $DOCKER_PID)" 2>/dev/null; then
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
    if [ -f "$DOCKER_PID" ] && kill "$(cat $DOCKER_PID)" 2>/dev/null; then
        say "stopping the Docker daemon"
    else
        say "no Docker daemon was started from here"
    fi
}

why_no_docker() {
    if ! have docker; then
        echo "Docker is not installed"
    elif ! is_root; then
        echo "no Docker daemon answers; start it (sudo systemctl start docker) and be in the group docker"
    else
        echo "the Docker daemon did not start; the last lines of $DOCKER_LOG:"
        tail -n 5 "$DOCKER_LOG" 2>/dev/null || true
    fi
}

# The commands -----------------------------------------------------------------------------------------------------

case "${1:-}" in
    venv)
        install_packages venv
        make_venv
        ;;
    demo)
        install_packages demo
        make_venv
        start_docker || say "going on without Docker, jobs will run as plain processes: $(why_no_docker)"
        ;;
    test)
        install_packages test
        make_venv
        install_node_packages
        if ! start_docker; then
            complain "The tests need a Docker daemon: $(why_no_docker)"
            complain "Without one, \`make check\` runs the tests that do not need it."
            exit 1
        fi
        ;;
    deb)
        install_packages venv
        install_packages deb
        make_venv
        ;;
    stop-docker)
        stop_docker
        ;;
    *)
        complain "usage: ops/setup.sh venv|demo|test|deb|stop-docker"
        exit 2
        ;;
esac
