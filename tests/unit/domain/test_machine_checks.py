"""What is read of a machine, and what that says."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from dms.adapters.service.machine import gpu_toolkit
from dms.domain.engine_facts import EngineFacts
from dms.domain.machine_checks import (
    GIB,
    ClockFacts,
    KeyFacts,
    MachineFacts,
    StoreFacts,
    address_row,
    engine_rows,
    machine_rows,
)

NOW_US = int(datetime(2026, 11, 29, tzinfo=UTC).timestamp()) * 1_000_000
STORE = StoreFacts(name="the event log", path="/var/nunet", free_bytes=50 * GIB, total_bytes=100 * GIB)
GOOD = MachineFacts(
    clock=ClockFacts(synchronised=True, error_seconds=0.02),
    stores=(STORE,),
    open_files=65_536,
    python=(3, 11, 7),
    keys=(KeyFacts(path="/etc/nunet/node.key", mode=0o600, own=True),),
)
ENGINE = EngineFacts(name="Docker 28.5.1, runc 1.3.3", kernel="6.1", runc="1.3.3", security=("seccomp", "apparmor"))


def bad(facts: MachineFacts, now_us: int = NOW_US) -> dict[str, str]:
    rows = machine_rows(facts, now_us)
    assert all(row.advice for row in rows if row.state in ("failed", "warning"))
    return {row.name: row.state for row in rows if row.state != "passed"}


def bad_engine(facts: EngineFacts) -> dict[str, str]:
    return {row.name: row.state for row in engine_rows(facts) if row.state != "passed"}


def test_a_machine_that_has_what_is_needed_passes() -> None:
    assert bad(GOOD) == {}
    assert bad_engine(ENGINE) == {}
    assert not any(row.required for row in (*machine_rows(GOOD, NOW_US), *engine_rows(ENGINE)))


def test_a_clock_that_nothing_keeps_right_is_a_warning() -> None:
    assert bad(replace(GOOD, clock=None)) == {"clock": "unknown"}
    assert bad(replace(GOOD, clock=ClockFacts(synchronised=True))) == {}
    assert bad(replace(GOOD, clock=ClockFacts(synchronised=False, error_seconds=0))) == {"clock": "warning"}
    assert bad(replace(GOOD, clock=ClockFacts(synchronised=True, error_seconds=16))) == {"clock": "warning"}


@pytest.mark.parametrize(
    ("free", "total", "state"),
    [(200, 100_000, "failed"), (1500, 10_000, "warning"), (4000, 100_000, "warning"), (6000, 100_000, "passed")],
)
def test_a_disk_that_is_nearly_full_is_told_before_it_is(free: int, total: int, state: str) -> None:
    mib = 1024 * 1024
    rows = machine_rows(replace(GOOD, stores=(replace(STORE, free_bytes=free * mib, total_bytes=total * mib),)), NOW_US)
    (row,) = [row for row in rows if row.name.startswith("disk")]
    assert (row.name, row.state) == ("disk of the event log", state)
    assert f"{free} of {total} MiB" in row.found


def test_few_descriptors_an_old_python_and_an_open_key_are_told() -> None:
    assert bad(replace(GOOD, open_files=1024)) == {"descriptors": "warning"}
    assert bad(replace(GOOD, open_files=-1)) == {}
    in_2028 = int(datetime(2028, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert bad(GOOD, in_2028) == {"python": "warning"}
    key = GOOD.keys[0]
    assert bad(replace(GOOD, keys=(replace(key, mode=0o640),))) == {"key": "failed"}
    assert bad(replace(GOOD, keys=(replace(key, own=False),))) == {"key": "failed"}


@pytest.mark.parametrize(
    ("version", "holes"),
    [
        ("1.1.5", ["CVE-2024-21626", "CVE-2025-31133"]), ("1.1.12", ["CVE-2025-31133"]), ("1.2.7", ["CVE-2025-31133"]),
        ("1.2.8", []), ("1.3.2", ["CVE-2025-31133"]), ("1.3.3", []), ("1.4.0", []), ("", []),
    ],
)  # fmt: skip
def test_known_holes_of_runc_are_named(version: str, holes: list[str]) -> None:
    found = [row.found for row in engine_rows(replace(ENGINE, runc=version)) if row.name == "runc"]
    assert bool(found) == bool(holes)
    assert all(hole in found[0] for hole in holes)


def test_an_engine_without_seccomp_or_that_does_not_answer_failed() -> None:
    assert bad_engine(replace(ENGINE, security=("apparmor",))) == {"engine-security": "failed"}
    assert bad_engine(replace(ENGINE, security=("seccomp",))) == {"engine-security": "warning"}
    assert bad_engine(replace(ENGINE, warnings=("WARNING: No swap limit support",))) == {"engine": "warning"}
    assert [row.state for row in engine_rows(None, "no socket")] == ["failed"]
    assert [row.state for row in engine_rows(None)] == ["warning"]


def test_whether_peers_come_through_is_not_known() -> None:
    inner = address_row(["/ip4/192.168.1.5/tcp/9000/p2p/12D3KooWOwn", "/dns4/a.example/tcp/9000"])
    outer = address_row(["/ip4/192.168.1.5/tcp/9000", "/ip4/8.8.4.4/tcp/9000"])
    assert (inner.state, outer.state) == ("unknown", "unknown")
    assert inner.found == "not known from here; this node has no public address"
    assert "/ip4/8.8.4.4/tcp/9000" in outer.found


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ("", {}),
        ("1.17.8", {}),
        ("1.18.0", {}),
        ("1.17.7", {"gpu-toolkit": "failed"}),
        ("1.9.0", {"gpu-toolkit": "failed"}),
    ],
)
def test_a_gpu_toolkit_by_which_an_image_takes_over_the_machine_fails(version: str, found: dict[str, str]) -> None:
    assert bad(replace(GOOD, gpu_toolkit=version)) == found


@pytest.mark.parametrize(
    ("program", "told", "version"),
    [
        ("nvidia-ctk", "NVIDIA Container Toolkit CLI version 1.17.4\ncommit: 9b69590c", "1.17.4"),
        ("nvidia-container-cli", "cli-version: 1.17.8\nlib-version: 1.17.8\nbuild date: 2025-05-30", "1.17.8"),
        ("nvidia-ctk", "what is this?", ""),
    ],
)
def test_the_gpu_toolkit_tells_its_version(
    program: str, told: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_toolkit() == ""
    (tmp_path / program).write_text(f"#!/bin/sh\n[ \"$1\" = --version ] && echo '{told}'\n")
    (tmp_path / program).chmod(0o755)
    assert gpu_toolkit() == version
