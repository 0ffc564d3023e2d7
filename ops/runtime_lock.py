"""The part of requirements.lock that the program needs to run: without what only its tests need.

python -m ops.runtime_lock     prints it; run by an interpreter that has all packages of the lock
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
_ENTRY = re.compile(r"^([A-Za-z0-9_.-]+)==", re.MULTILINE)


def runtime_names() -> set[str]:
    """Canonical names of all that pyproject.toml's dependencies need on this machine."""
    found: set[str] = set()
    waiting = [("", frozenset[str]())]  # the project itself
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        for text in _needs(name) if name else _own_needs():
            need = Requirement(text)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras or {""}):
                found.add(canonicalize_name(need.name))
                step = (need.name, frozenset(need.extras))
                if step not in seen:
                    seen.add(step)
                    waiting.append(step)
    return found


def _own_needs() -> list[str]:
    """Not as installed: an editable installation may be older than the file."""
    project: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["dependencies"]


def _needs(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError as error:
        raise SystemExit(f"{name} is not installed: run `ops/setup.sh deb` first") from error


def runtime_lock(lock: str) -> str:
    """The lock's entries of those names, hashes and all. Raises SystemExit when one is missing."""
    starts = [match.start() for match in _ENTRY.finditer(lock)]
    entries = [lock[start:end] for start, end in zip(starts, [*starts[1:], len(lock)], strict=True)]
    wanted = runtime_names()
    kept = [entry for entry in entries if canonicalize_name(entry.partition("==")[0]) in wanted]
    missing = wanted - {canonicalize_name(entry.partition("==")[0]) for entry in kept}
    if missing:
        raise SystemExit(f"requirements.lock has no {', '.join(sorted(missing))}: run `make lock`")
    return "".join(kept)


if __name__ == "__main__":
    print(runtime_lock((ROOT / "requirements.lock").read_text()), end="")
