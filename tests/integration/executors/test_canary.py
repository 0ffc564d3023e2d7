"""What keeps a job in, tried from inside of a container on a real engine: it holds, and each row is red when what it
stands for is put out of force."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from docker import APIClient
from msgspec.structs import replace

from dms.adapters.executors import canary
from dms.adapters.executors.canary import TRIAL_PREFIX
from dms.adapters.executors.docker import DockerExecutor
from dms.adapters.executors.profile import LABEL_JOB, LABEL_NODE, container_config
from dms.domain.check import Check, CheckState
from dms.domain.sandbox import ALL_NAMES, GVISOR, NAMES, START, trouble_of
from tests.fixtures.docker_executors import SETTINGS
from tests.fixtures.engine import own_engine
from tests.fixtures.jobs import NODE
from tests.fixtures.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.tries_sandbox]

profile = container_config


def weakened(monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], host: dict[str, Any]) -> None:
    """Jobs would be given these instead."""

    def changed(*arguments: Any) -> dict[str, Any]:
        made = profile(*arguments)
        made["HostConfig"].update(host)
        return made | config

    monkeypatch.setattr(canary, "container_config", changed)


def failed(rows: tuple[Check, ...]) -> dict[str, str]:
    return {row.name: row.found for row in rows if row.state == CheckState.FAILED}


async def test_the_profile_of_jobs_holds_in_every_row(executor: DockerExecutor, api: APIClient) -> None:
    trial = await executor.try_sandbox()
    assert {row.name: row.state for row in trial.rows} == dict.fromkeys(set(NAMES) - {START}, CheckState.PASSED)
    assert trial.engine.startswith("Docker ")
    assert trials(api) == []


def trials(api: APIClient) -> list[str]:
    """Test containers that are there; those of other tests' nodes are their own affair."""
    ours = {"label": f"{LABEL_NODE}={NODE}"}
    found = [each["Labels"][LABEL_JOB] for each in api.containers(all=True, filters=ours)]
    return [job_id for job_id in found if job_id.startswith(TRIAL_PREFIX)]


async def test_a_try_that_nobody_waits_for_any_more_leaves_nothing_behind(api: APIClient) -> None:
    """As when the DMS stops: whoever waited is cancelled until it ends, and then the executor is closed."""
    executor = DockerExecutor(NODE, SETTINGS)
    trying = asyncio.create_task(executor.try_sandbox())
    await wait_for(lambda: trials(api))
    while not trying.done():
        trying.cancel()
        await asyncio.sleep(0)
    await executor.close()
    assert trials(api) == []


NO_NEW_PRIVILEGES = "no-new-privileges:true"
WEAKNESSES: list[tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = [
    ({}, {"SecurityOpt": [NO_NEW_PRIVILEGES, "seccomp=unconfined"]}, {"system-calls": "io_uring"}),
    ({}, {"SecurityOpt": ["seccomp=unconfined"]},
     {"system-calls": "no filter", "privileges": "may gain privileges", "setuid": "made a job root"}),
    ({"User": "0"}, {"CapAdd": ["SYS_ADMIN"], "Ulimits": [{"Name": "nofile", "Soft": 20_000, "Hard": 20_000}]},
     {"user": "jobs run as root", "privileges": "a job has capabilities (0x200000)", "open-files": "20000"}),
    ({}, {"NetworkMode": "host", "IpcMode": "host", "PidsLimit": -1},
     {"network": "a way out: IPv4", "namespaces": "ipc, net", "scratch": "/dev/shm has no bound",
      "processes": "at most 96 processes"}),
    ({}, {"ReadonlyRootfs": False, "Tmpfs": {"/tmp": "", "/workspace": "size=32m,exec,suid"},
          "Devices": [{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/kmsg", "CgroupPermissions": "r"}],
          "Binds": ["/var/run/docker.sock:/run/docker.sock"]},
     {"root-filesystem": "can write it", "scratch": "/tmp has no bound; /workspace allows setuid",
      "devices": "kmsg", "host-files": "/run/docker.sock"}),
    ({}, {"Memory": 0, "MemorySwap": 0}, {"memory": "64 MB could take four times that"}),
    ({"Entrypoint": ["/nothing"]}, {}, {START: "ended before it told anything (exit code 127)"}),
]  # fmt: skip


@pytest.mark.parametrize(("config", "host", "expected"), WEAKNESSES)
async def test_a_row_fails_when_what_it_stands_for_is_out_of_force(
    config: dict[str, Any],
    host: dict[str, Any],
    expected: dict[str, str],
    executor: DockerExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weakened(monkeypatch, config, host)
    rows = (await executor.try_sandbox()).rows
    found = failed(rows)
    assert found.keys() == expected.keys()
    assert [name for name, text in expected.items() if text not in found[name]] == [], found
    assert all(name in trouble_of(rows) for name in expected)


STARTS = {START, f"{GVISOR}-{START}"}


@pytest.fixture(scope="module")
def gvisors_engine() -> Iterator[str]:
    with own_engine(gvisor=True) as engine:
        yield engine.base_url


@pytest.fixture
async def in_gvisor(gvisors_engine: str) -> AsyncIterator[DockerExecutor]:
    made = DockerExecutor(NODE, replace(SETTINGS, base_url=gvisors_engine, runtime="auto"))
    yield made
    await made.close()


async def test_where_jobs_get_gvisor_both_runtimes_are_tried(in_gvisor: DockerExecutor, gvisors_engine: str) -> None:
    trial = await in_gvisor.try_sandbox()
    assert {row.name: row.state for row in trial.rows} == dict.fromkeys({*ALL_NAMES} - STARTS, CheckState.PASSED)
    assert trial.engine.endswith(", gVisor"), "so that it is tried again when the engine gets or loses it"
    never = DockerExecutor(NODE, replace(SETTINGS, base_url=gvisors_engine, runtime="default"))
    assert {row.name for row in (await never.try_sandbox()).rows} == {*NAMES} - STARTS
    await never.close()


@pytest.mark.parametrize(
    ("config", "host", "expected"),
    [
        ({}, {"Memory": 0, "MemorySwap": 0}, {"memory", "gvisor-memory"}),
        ({}, {"ReadonlyRootfs": False}, {"root-filesystem", "gvisor-root-filesystem"}),
        ({"User": "0"}, {}, {"user", "gvisor-user"}),
        ({"Entrypoint": ["/nothing"]}, {}, STARTS),
    ],
)
async def test_a_row_of_gvisors_fails_as_well(
    config: dict[str, Any],
    host: dict[str, Any],
    expected: set[str],
    in_gvisor: DockerExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weakened(monkeypatch, config, host)
    rows = (await in_gvisor.try_sandbox()).rows
    assert failed(rows).keys() == expected, failed(rows)
    assert all(f"{name}: " in trouble_of(rows) for name in expected)


def test_each_row_is_made_to_fail_once() -> None:
    assert {name for _, _, expected in WEAKNESSES for name in expected} == set(NAMES)
