#!/usr/bin/env bash
# Builds dist/nunet-dms_VERSION_ARCH.deb, and prints that name; `ops/setup.sh deb` brings what it needs. Packages come
# from pip's usual index or cache, their hashes are checked.
set -euo pipefail
cd "$(dirname "$0")/.."

PY=${PY:-.venv/bin/python}
[ -x "$PY" ] || { echo "no $PY: run ops/setup.sh deb first" >&2; exit 1; }
[ -f dms/adapters/http/dashboard_files/index.html ] || { echo "the dashboards are not built: run ops/setup.sh deb first" >&2; exit 1; }
PY=$(readlink -f "$(dirname "$PY")")/$(basename "$PY") # not through the link: it is what makes it a venv's
export PY

# dpkg-buildpackage writes its results beside the source tree: so it works on a copy.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/nunet-dms"
tar -c --exclude=./.git --exclude=./.venv --exclude=./dist --exclude=__pycache__ --exclude='./.*_cache' \
    --exclude=./.hypothesis --exclude=node_modules . | tar -x -C "$work/nunet-dms"

log=$work/build.log
if ! (cd "$work/nunet-dms" && env -u PYTHONPATH dpkg-buildpackage -b -us -uc -d) >"$log" 2>&1 </dev/null; then
    tail -n 60 "$log" >&2
    exit 1
fi
mkdir -p dist
built=$(cd "$work" && echo nunet-dms_*.deb)
cp "$work/$built" dist/
echo "dist/$built"
