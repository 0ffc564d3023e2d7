#!/usr/bin/env bash
# For who works on the DMS: a hook that runs the daily check before each commit, and the package installed with its
# service stopped, so that a daemon can run from source on the same ports and find all that the package brings.
#
#   ops/dev-setup.sh [--hook-only] [arguments of ops/install.sh]
set -euo pipefail
cd "$(dirname "$0")/.."

readonly MARK='# Made by ops/dev-setup.sh.'
say() { printf '== %s\n' "$*"; }
fail() { printf 'dev-setup: %s\n' "$*" >&2; exit 1; }

install_hook() {
    local hooks hook
    hooks=$(git rev-parse --git-path hooks) || fail "this is no git checkout"
    hook=$hooks/pre-commit
    if [ -e "$hook" ] && ! grep -qF "$MARK" "$hook"; then
        fail "$hook is somebody else's; add the line 'make check' to it, or move it away and run this again"
    fi
    mkdir -p "$hooks"
    printf '#!/bin/sh\n%s\n# "git commit --no-verify" leaves it out.\nexec make --no-print-directory check\n' "$MARK" >"$hook"
    chmod 755 "$hook"
    say "each commit runs \`make check\` first ($hook)"
}

stop_service() {
    if [ ! -d /run/systemd/system ]; then
        say "no systemd runs here: there is no service to stop"
        return
    fi
    local -a root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    "${root[@]}" systemctl stop nunet-dms
    say "the service is stopped; start it with: systemctl start nunet-dms"
}

case "${1:-}" in
    -h | --help)
        echo "usage: ops/dev-setup.sh [--hook-only] [arguments of ops/install.sh]"
        echo
        echo "Example:"
        echo "  ops/dev-setup.sh --package dist/nunet-dms_0.1.0_amd64.deb"
        ;;
    --hook-only)
        install_hook
        ;;
    *)
        install_hook
        ops/install.sh --no-questions "$@"
        stop_service
        say "run from source with: .venv/bin/nunet run"
        ;;
esac
