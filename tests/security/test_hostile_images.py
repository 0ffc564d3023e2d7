"""Thirty images that want more than a job gets, on one provider, several at once while its API is used; in the engine's
own runtime and in gVisor: there all of them by `make test-gvisor`, in `make test` a part."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from docker import APIClient

from dms.adapters.executors.profile import seccomp_profile
from dms.domain.deployment import Fault
from tests.fixtures.engine import own_engine
from tests.fixtures.gvisor import EVERYTHING
from tests.fixtures.hostile import probe_image
from tests.fixtures.hostile_images import DISK_MB, MIB, MOST_LOG_BYTES, TRY, Run, Seen, run_hostile
from tests.fixtures.hostile_kinds import DEVICES, IMAGES, at, in_gvisor

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture(scope="module")
def listening() -> Iterator[int]:
    """A port of every address of this machine where connections are taken."""
    with socket.create_server(("", 0), backlog=64) as server:
        yield server.getsockname()[1]


@pytest.fixture(scope="module", params=["engine's runtime", "gvisor"])
def hostile(request: pytest.FixtureRequest, listening: int, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What came of all of them."""
    folder = tmp_path_factory.mktemp("hostile")
    gvisor = request.param == "gvisor"
    images = [at(image, listening) for image in IMAGES if not gvisor or image.name in in_gvisor(everything=EVERYTHING)]
    with own_engine(gvisor=gvisor, disk_mb=DISK_MB) as engine:
        return asyncio.run(run_hostile(images, folder, engine, "runsc" if gvisor else "default"))


def seen(hostile: Run, name: str) -> Seen:
    """Fails the test where it was not run; a part of them is run in gVisor."""
    return hostile.seen[name]


def test_there_are_thirty() -> None:
    assert len({image.name for image in IMAGES}) >= 30


def test_none_gets_anything(hostile: Run) -> None:
    got = {name: [line for line in seen.lines if line.startswith("GOT")] for name, seen in hostile.seen.items()}
    assert {name: lines for name, lines in got.items() if lines} == {}
    may_die = {image.name for image in IMAGES if image.dies}
    assert [name for name, seen in hostile.seen.items() if name not in may_die and "over" not in seen.lines] == []


def test_the_same_tries_succeed_in_a_usual_container(listening: int, demo_images: tuple[str, str]) -> None:
    """So that the tries above could succeed."""
    controls = [image for image in IMAGES if image.control]
    with closing(APIClient(version="auto")) as api:
        for image in controls:
            name = probe_image(None, image.changes)
            script = TRY + at(image, listening).script + "; kill -9 -1"
            host_config = api.create_host_config(shm_size=400 * MIB)
            made = api.create_container_from_config(  # type: ignore[no-untyped-call]
                api.create_container_config(name, [script, ""], host_config=host_config)
            )
            try:
                api.start(made["Id"])
                api.wait(made["Id"], timeout=120)
                assert "GOT" in bytes(api.logs(made["Id"])).decode(), image.name
            finally:
                api.remove_container(made["Id"], force=True, v=True)


def test_nothing_of_them_is_left_on_the_machine(hostile: Run) -> None:
    """No container, volume, network, mount, process or folder."""
    assert hostile.left == []


def test_nothing_of_them_is_written_to_the_disk_but_bounded_output(hostile: Run) -> None:
    for name, one in hostile.seen.items():
        assert one.written_bytes <= MIB // 4, name  # the engine's own few files in it
        assert one.log_bytes <= MOST_LOG_BYTES, name
        assert one.inspected["HostConfig"]["ReadonlyRootfs"], name
        assert {mount["Type"] for mount in one.inspected["Mounts"]} <= {"bind", "tmpfs"}, name


def test_disk_processes_and_sockets_of_the_host_are_as_they_were(hostile: Run) -> None:
    """And meanwhile there were no more of them than the jobs' bounds."""
    assert hostile.disk_is_kept, (hostile.before, hostile.most, hostile.after)
    assert hostile.processes_are_kept, (hostile.before, hostile.most, hostile.after)
    assert hostile.sockets_are_kept, (hostile.before, hostile.most, hostile.after)


def test_the_api_is_answered_meanwhile(hostile: Run) -> None:
    assert hostile.meanwhile


def test_each_has_the_one_profile(hostile: Run) -> None:
    asked = {image.name: image.memory_mb for image in IMAGES}
    for name, one in hostile.seen.items():
        host, config = one.inspected["HostConfig"], one.inspected["Config"]
        assert (host["Privileged"], host["CapDrop"], host["CapAdd"]) == (False, ["ALL"], None), name
        assert host["SecurityOpt"] == ["no-new-privileges:true", f"seccomp={seccomp_profile()}"], name
        assert (host["NetworkMode"], host["IpcMode"], host["PidMode"]) == ("none", "private", ""), name
        assert (host["UTSMode"], host["UsernsMode"], host["CgroupParent"]) == ("", "", ""), name
        assert (host["PortBindings"] or {}, host["RestartPolicy"]["Name"]) == ({}, "no"), name
        assert {mount.get("Propagation") or "private" for mount in one.inspected["Mounts"]} <= {
            "private",
            "rprivate",
        }, name
        assert (host["Devices"] or [], host["DeviceRequests"] or []) == ([], []), name
        assert host["Memory"] == host["MemorySwap"] == asked[name] * MIB, name
        assert host["PidsLimit"] == 512, name
        assert (config["User"], config["Healthcheck"]) == ("65532:65532", {"Test": ["NONE"]}), name
        assert {"LD_PRELOAD=", "NVIDIA_VISIBLE_DEVICES=void"} <= set(config["Env"]), name


@pytest.mark.parametrize("hostile", ["engine's runtime"], indirect=True)
def test_a_fork_bomb_dies_inside_and_others_are_served(hostile: Run) -> None:
    assert not seen(hostile, "fork-bomb").inspected["State"]["Running"]
    assert hostile.left == []
    assert any("can't fork" in line for line in seen(hostile, "many-processes").lines)
    assert hostile.meanwhile


@pytest.mark.parametrize("hostile", ["engine's runtime"], indirect=True)
def test_no_place_takes_more_than_its_share(hostile: Run) -> None:
    """Neither the workspace, /tmp, shared memory, a VOLUME, nor the image's own files."""
    for name in ("workspace", "memory-by-files", "shared-memory", "volume", "root-files"):
        assert not [line for line in seen(hostile, name).lines if line.startswith("GOT")], name
        assert seen(hostile, name).written_bytes <= MIB // 4


def test_all_of_the_memory_ends_the_job_and_says_so(hostile: Run) -> None:
    one = seen(hostile, "memory")
    assert (one.fault, one.reason) == (Fault.JOB, "exit code 137")
    assert one.oom_killed or one.inspected["HostConfig"]["Runtime"] == "runsc"  # which tells the engine now and then


def test_a_job_that_listens_to_nothing_is_ended_all_the_same(hostile: Run) -> None:
    """Whatever its image says of signals and of checks of its health."""
    for name in ("deaf", "cpu", "root-user"):
        assert (seen(hostile, name).fault, seen(hostile, name).reason) == (Fault.REQUESTER, "enough")
    assert seen(hostile, "deaf").inspected["State"].get("Health") is None


def test_roots_image_is_nobody_on_the_machine(hostile: Run) -> None:
    one = seen(hostile, "root-user")
    runtime = one.inspected["HostConfig"]["Runtime"]
    assert 0 not in one.users or runtime == "runsc"  # gVisor's own process, in a namespace without rights
    assert "GOT root" not in one.lines


@pytest.mark.parametrize("hostile", ["engine's runtime"], indirect=True)
def test_system_calls_that_only_attackers_need_are_closed(hostile: Run) -> None:
    told = [line for line in seen(hostile, "calls").lines if line != "over"]
    assert len(told) == 14
    assert [line for line in told if not line.endswith(" closed")] == []


@pytest.mark.parametrize("hostile", ["engine's runtime"], indirect=True)
def test_no_device_but_the_harmless_ones_and_none_of_the_gpus(hostile: Run) -> None:
    assert set(seen(hostile, "devices").lines) - {"over"} <= DEVICES
    assert set(seen(hostile, "variables").lines) - {"over"} == {
        "LD_PRELOAD=", "LD_AUDIT=", "LD_LIBRARY_PATH=/usr/lib", "XDG_CONFIG_HOME=", "NVIDIA_VISIBLE_DEVICES=void",
        "NVIDIA_DRIVER_CAPABILITIES=",
    }  # fmt: skip
    assert seen(hostile, "setuid").lines[0].split() == ["NoNewPrivs:", "1"]


@pytest.mark.parametrize("hostile", ["engine's runtime"], indirect=True)
def test_what_they_print_is_text_and_what_is_left_out_has_a_mark(hostile: Run) -> None:
    assert seen(hostile, "control-bytes").lines[0].startswith("\x1b[2J")
    flood = seen(hostile, "output").lines
    assert sum(len(line) + 1 for line in flood) < 8_000_000
