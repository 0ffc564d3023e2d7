"""What a test container saw, and which promise each of it breaks."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from msgspec.structs import replace

from dms.domain.check import CheckState, worst
from dms.domain.device import Capacity, Device
from dms.domain.resources import Resources
from dms.domain.sandbox import GVISOR, NAMES, START, Asked, Found, not_started, rows_of, trouble_of

MIB = 1024 * 1024
ASKED = Asked(processes=96, memory_mb=64, open_files=8192)
GOOD = Found(
    uid=65532,
    effective_uid=65532,
    setuid_uid=252,
    capabilities=0,
    no_new_privileges=True,
    seccomp=2,
    open_files=8192,
    shared=(),
    devices=("null", "zero", "pts"),
    calls={"io_uring": -errno.ENOSYS, "mount": -errno.EPERM},
    writes={"/tmp": -errno.ENOSPC},
    root_write=-errno.EROFS,
    routes={"IPv4": -errno.ENETUNREACH, "IPv6": -errno.EAFNOSUPPORT},
    host_files={"/run/docker.sock": -errno.ENOENT},
    mount_flags={"/tmp": 0x26},
    forks=(7, -errno.EAGAIN),
    memory=None,
    killed_for_memory=True,
    kernel="6.1",
)


def states(found: Found, asked: Asked = ASKED, accepted: tuple[str, ...] = ()) -> dict[str, str]:
    """Of the rows that did not pass."""
    rows = rows_of(found, asked, accepted)
    assert [row.name for row in rows] == [name for name in NAMES if name != START]
    return {row.name: row.state for row in rows if row.state != CheckState.PASSED}


def test_a_sandbox_that_keeps_all_its_promises_passes() -> None:
    assert states(GOOD) == {}
    assert trouble_of(rows_of(GOOD, ASKED)) == ""


@pytest.mark.parametrize(
    ("changed", "row"),
    [
        ({"uid": 0}, "user"),
        ({"capabilities": 1 << 21}, "privileges"),
        ({"no_new_privileges": False}, "privileges"),
        ({"setuid_uid": 0}, "setuid"),
        ({"routes": {"IPv4": 0}}, "network"),
        ({"routes": {"IPv4": -errno.ECONNREFUSED}}, "network"),
        ({"shared": ("pid",)}, "namespaces"),
        ({"forks": (7, 103)}, "processes"),
        ({"memory": 256 * MIB}, "memory"),
        ({"root_write": 3}, "root-filesystem"),
        ({"writes": {"/tmp": 0}}, "scratch"),
        ({"mount_flags": {"/tmp": 0x24}}, "scratch"),
        ({"mount_flags": {"/tmp": 0x22}}, "scratch"),
        ({"devices": ("null", "sda")}, "devices"),
        ({"host_files": {"/run/docker.sock": 0}}, "host-files"),
        ({"open_files": 8193}, "open-files"),
        ({"calls": {"io_uring": 4}}, "system-calls"),
        ({"calls": {"setns": -errno.EBADF}}, "system-calls"),
        ({"seccomp": 0}, "system-calls"),
    ],
)
def test_a_broken_promise_fails_its_row_and_is_what_peers_are_told(changed: dict[str, Any], row: str) -> None:
    found = replace(GOOD, **changed)
    assert states(found) == {row: CheckState.FAILED}
    assert f"({row}: " in trouble_of(rows_of(found, ASKED))
    assert states(found, accepted=(row,)) == {row: CheckState.WARNING}
    assert trouble_of(rows_of(found, ASKED, (row,))) == ""


@pytest.mark.parametrize(
    ("changed", "row"),
    [
        ({"setuid_uid": -errno.ENOEXEC}, "setuid"),
        ({"forks": None}, "processes"),
        ({"forks": (-errno.EPERM, -errno.EPERM)}, "processes"),
        ({"killed_for_memory": False}, "memory"),
    ],
)
def test_what_could_not_be_tried_is_not_known_and_refuses_nobody(changed: dict[str, Any], row: str) -> None:
    found = replace(GOOD, **changed)
    assert states(found) == {row: CheckState.UNKNOWN}
    assert trouble_of(rows_of(found, ASKED)) == ""


def test_memory_that_the_kernel_refused_in_place_of_killing_is_bounded_too() -> None:
    assert states(replace(GOOD, memory=-errno.EFAULT, killed_for_memory=False)) == {}
    assert states(replace(GOOD, memory=60 * MIB, killed_for_memory=False)) == {}


def test_a_kernel_of_its_own_answers_what_it_likes() -> None:
    assert states(replace(GOOD, calls={"io_uring": 4}, seccomp=0, own_kernel=True)) == {}


def test_what_the_owner_gave_up_is_a_warning() -> None:
    assert states(replace(GOOD, uid=0, effective_uid=0), replace(ASKED, image_user=True)) == {"user": "warning"}
    assert states(replace(GOOD, root_write=3), replace(ASKED, writable_root=True)) == {"root-filesystem": "warning"}


def test_a_container_that_did_not_start_breaks_the_promise_of_a_sandbox() -> None:
    assert trouble_of(not_started("no runtime")).endswith("(start: no runtime)")


def test_the_worst_of_all_rows_is_the_verdict() -> None:
    good, bad = rows_of(GOOD, ASKED), rows_of(replace(GOOD, uid=0), ASKED)
    assert (worst(good), worst(bad), worst(())) == ("passed", "failed", "unknown")


def test_a_result_is_recorded_when_it_is_another_one_of_a_machine_that_is_onboarded() -> None:
    device, rows = Device("12D3KooWOwn"), rows_of(GOOD, ASKED)
    assert not device.see_sandbox("Docker 20", rows)
    device.trigger(_onboarded())
    assert not device.see_sandbox("", ())  # there is none
    assert device.see_sandbox("Docker 20", rows)
    assert not device.see_sandbox("Docker 20", rows)
    assert device.see_sandbox("Docker 21", rows)
    assert device.see_sandbox("Docker 21", rows_of(replace(GOOD, uid=0), ASKED))
    assert "user: jobs run as root" in device.sandbox_trouble


def _onboarded() -> Device.Onboarded:
    capacity = Capacity(cpu_mhz=8000, memory_mb=8000, cores=4)
    return Device.Onboarded(total=capacity, offered=Resources(), channel="nunet-test", payment_address="x")


@pytest.mark.parametrize("forks", [None, (7, 103)])
def test_processes_and_devices_of_a_kernel_of_its_own_are_none_of_the_machines(forks: tuple[int, int] | None) -> None:
    found = replace(GOOD, own_kernel=True, forks=forks, seccomp=0, devices=("null", "fuse", "net"))
    assert states(found) == {}
    assert states(replace(found, devices=("sda",))) == {"devices": CheckState.FAILED}
    assert states(replace(found, forks=(-errno.ENOMEM, 0))) == {"processes": CheckState.UNKNOWN}
    assert states(replace(GOOD, devices=("fuse",))) == {"devices": CheckState.FAILED}


def test_rows_of_another_runtime_have_its_name_and_are_accepted_by_it() -> None:
    found = replace(GOOD, root_write=3)
    name = f"{GVISOR}-root-filesystem"
    tries = ((), CheckState.FAILED), (("root-filesystem",), CheckState.FAILED), ((name,), CheckState.WARNING)
    for accepted, state in tries:
        rows = rows_of(found, ASKED, accepted, GVISOR)
        assert [row.name for row in rows] == [f"{GVISOR}-{row}" for row in NAMES if row != START]
        assert {row.name: row.state for row in rows if row.state != CheckState.PASSED} == {name: state}
    assert [row.name for row in not_started("none", GVISOR)] == [f"{GVISOR}-{START}"]
