"""What pip is set up with on this machine (files, environment), as environment variables that uv reads.

    eval "$(.venv/bin/python ops/pip_settings.py)"

uv reads no configuration of pip. Variables of uv that are set already count more.
"""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
SECTIONS = ("global", "install", ":env:")  # the later one counts more


def as_uv(listed: str, environment: Mapping[str, str]) -> dict[str, str]:
    """listed: the output of `pip config list`. environment: what is set already, which is left as it is."""
    options = [line.partition("=") for line in listed.splitlines()]
    found: dict[str, str] = {}
    for section in SECTIONS:
        for key, _, value in options:
            name = VARIABLES.get(key.removeprefix(f"{section}."))
            if name and key.startswith(f"{section}."):
                places = [place for place in ast.literal_eval(value).split() if not _is_missing(place)]
                found[name] = " ".join(places)
    found = {name: value for name, value in found.items() if value}
    if found:
        # As pip does, and safe because of the hashes: uv itself would look only into the first index that has the name.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {name: value for name, value in found.items() if name not in environment}


def _is_missing(place: str) -> bool:
    """A folder on this machine that is not there: pip goes on without it, uv would end."""
    path = urlsplit(place).path if place.startswith("file:") else place
    return path.startswith("/") and not Path(path).exists()


def main() -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listed = subprocess.run(pip, check=True, capture_output=True, text=True).stdout
    for name, value in as_uv(listed, os.environ).items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
