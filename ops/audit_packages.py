"""`make audit-packages`: looks the locked packages up among known vulnerabilities, in the databases of pip-audit.

Ends with 0 when every package was looked up and none has a known vulnerability, with 1 when one has, and with 3 when
not all could be looked up: then nothing is known, and nothing is called fine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

LOCKS = ("requirements.lock", "ops/uv.lock", "ops/node.lock")
# Fetched when it is asked for: it is no part of what is built or tested, and brings its own dozen packages.
TOOL = (str(Path(sys.executable).with_name("uv")), "tool", "run", "pip-audit>=2.9,<3")
DATABASES = ("pypi", "osv")
SECONDS = 300


class Found(NamedTuple):
    """Of a package: vulnerabilities is None where it could not be looked up."""

    package: str
    vulnerabilities: tuple[str, ...] | None


def read(report: str) -> Iterator[Found]:
    """report: pip-audit's JSON, which leaves out what is wrong with a package that it could not look up."""
    for one in json.loads(report)["dependencies"]:
        package = f"{one['name']} {one.get('version', '')}".strip()
        yield Found(package, None if "skip_reason" in one else tuple(map(_told, one["vulns"])))


def _told(vulnerability: dict[str, Any]) -> str:
    mended = ", ".join(vulnerability.get("fix_versions", ())) or "no version yet"
    return f"{vulnerability['id']} (mended in {mended})"


def verdict(found: Sequence[Found]) -> tuple[int, list[str]]:
    """The exit code, and what to say."""
    bad = [f"{one.package}: {text}" for one in found for text in one.vulnerabilities or ()]
    unknown = sum(one.vulnerabilities is None for one in found)
    if unknown or not found:
        bad.append(f"{unknown} of {len(found)} packages could not be looked up: of those nothing is known")
        return (1 if len(bad) > 1 else 3), bad
    return (1, bad) if bad else (0, [f"{len(found)} packages, no known vulnerability"])


def ask(lock: str, database: str) -> list[Found]:
    """What a database says of the packages in a lock file; empty when it can't be asked."""
    command = [
        *TOOL,
        "-r",
        lock,
        "-s",
        database,
        "--no-deps",
        "--disable-pip",
        "-f",
        "json",
        "--progress-spinner",
        "off",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        return list(read(done.stdout))
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError, KeyError):
        return []


def _best(lock: str) -> list[Found]:
    """The first database that knows all of them, or else the one that knows most."""
    best: list[Found] = []
    for database in DATABASES:
        found = ask(lock, database)
        if found and all(one.vulnerabilities is not None for one in found):
            return found
        best = max(best, found, key=lambda them: (sum(one.vulnerabilities is not None for one in them), len(them)))
    return best


def main() -> int:
    worst = 0
    for lock in LOCKS:
        code, lines = verdict(_best(lock))
        for line in lines:
            print(f"{lock}: {line}")
        worst = code if worst == 0 or code == 1 else worst
    if worst == 3:
        print("no database of vulnerabilities could be reached for all of them: try again where there is internet")
    return worst


if __name__ == "__main__":
    raise SystemExit(main())
