#!/usr/bin/env bash
# Makes the virtual environment that the Debian package installs: of the system's Python, with the packages of
# requirements-run.lock and this program, and with no path of the machine that built it.
#
#   ops/bundle.sh FOLDER     FOLDER will stand in /usr/lib/nunet-dms
set -euo pipefail
cd "$(dirname "$0")/.."

readonly target=$1
readonly home=/usr/lib/nunet-dms
readonly system_python=/usr/bin/python3
readonly py=${PY:-.venv/bin/python}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip() { "$work/pip/bin/python" -m pip --disable-pip-version-check --no-input --quiet "$@"; }

rm -rf "$target"
"$system_python" -m venv --without-pip --symlinks "$target"
"$system_python" -m venv "$work/pip"

pip --python "$target/bin/python" install --no-compile --require-hashes --no-deps -r requirements-run.lock

# From a copy: setuptools leaves its own folders behind, and would take old ones in.
mkdir "$work/source"
cp -r pyproject.toml README.md LICENSE dms projections "$work/source"
find "$work/source" -name __pycache__ -type d -prune -exec rm -rf {} +
"$py" -m pip --disable-pip-version-check --quiet wheel --no-deps --no-build-isolation --no-cache-dir \
    -w "$work" "$work/source"
pip --python "$target/bin/python" install --no-compile --no-deps --no-index "$work"/nunet_dms-*.whl

# What only a shell of this environment would need, and scripts with the build's path in their first line.
find "$target/bin" -mindepth 1 ! -name 'python*' -delete
rm -rf "$target/include" "$target/share"
find "$target" -name .gitignore -delete  # from Python 3.13 on, venv writes one
sed -i '/^command = /d; /^executable = /d' "$target/pyvenv.cfg"
find "$target/lib" -name __pycache__ -type d -prune -exec rm -rf {} +
find "$target/lib" \( -name RECORD -o -name direct_url.json -o -name INSTALLER -o -name REQUESTED \) -delete
printf '#!%s/bin/python -I\nfrom dms.cli.main import main\n\nmain()\n' "$home" >"$target/bin/nunet"
chmod 755 "$target/bin/nunet"
