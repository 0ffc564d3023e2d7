"""Asks the engine what it is."""

from __future__ import annotations

import re
from typing import Any

from docker import APIClient

from dms.adapters.executors.runtimes import GVISOR
from dms.domain.engine_facts import EngineFacts

MOST_WARNINGS = 20
_VERSION = re.compile(r"\d+(?:\.\d+){1,3}")


def facts_of(api: APIClient) -> EngineFacts:
    version: dict[str, Any] = api.version()
    info: dict[str, Any] = api.info()
    components = {str(part.get("Name", "")): str(part.get("Version", "")) for part in version.get("Components") or ()}
    engine, runc = str(version.get("Version", "")), number_in(components.get("runc", ""))
    options = [str(text).split(",")[0].removeprefix("name=") for text in info.get("SecurityOptions") or ()]
    parts = ["Docker " + (number_in(engine) or engine), *([f"runc {runc}"] if runc else [])]
    return EngineFacts(
        name=", ".join([*parts, *(["gVisor"] if GVISOR in (info.get("Runtimes") or {}) else [])]),
        version=number_in(engine),
        architecture=str(version.get("Arch", "")),
        kernel=str(version.get("KernelVersion", "")),
        runc=runc,
        cgroups=str(info.get("CgroupVersion", "")),
        security=tuple(options),
        root=str(info.get("DockerRootDir", "")),
        warnings=tuple(str(text)[:200] for text in (info.get("Warnings") or ())[:MOST_WARNINGS]),
    )


def number_in(text: str) -> str:
    """The digits of a version, as in "1.1.5+ds1"; empty for none."""
    found = _VERSION.search(text)
    return found[0] if found else ""
