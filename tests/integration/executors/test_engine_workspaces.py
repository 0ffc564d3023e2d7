"""Workspaces as volumes of the engine: what their holder shows of them, what hostile jobs leave in them, and what is
left of them after a crash at any step."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import tarfile
import threading
import warnings
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import pytest_asyncio
from docker import APIClient

from dms.adapters.executors.docker import DockerExecutor
from dms.adapters.executors.engine import EngineAddress, engine_address
from dms.adapters.executors.helper_image import HelperImage, is_static
from dms.adapters.executors.holders import _QUIET_SECONDS, Holders
from dms.adapters.executors.pack_stream import _DIGESTS, _lines
from dms.domain.deployment import Deployment
from dms.domain.inputs import Input
from dms.domain.resources import Resources
from dms.domain.results import Selection
from dms.errors import ArchiveRefused, ExecutionError, ExecutorUnavailable
from tests.fixtures.docker_executors import SETTINGS, api
from tests.fixtures.histories import request
from tests.fixtures.images import demo_images
from tests.fixtures.jobs import MIB, NODE, ended, file_in, launch, packed, read_all, shell_spec, texts, until
from tests.fixtures.provider import SERVICE_PROVIDER
from tests.fixtures.web_server import content, web_server
from tests.integration.http.node import running_node

__all__ = ["api", "demo_images"]

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]


IN_VOLUMES = msgspec.structs.replace(SETTINGS, workspace_volumes=True)


@pytest_asyncio.fixture
async def executor() -> AsyncIterator[DockerExecutor]:
    made = DockerExecutor(NODE, IN_VOLUMES)
    before = set(await made.list_jobs())
    yield made
    for job_id in set(await made.list_jobs()) - before:
        await made.remove(job_id)
    await made.close()


def of_job(api: APIClient, job_id: str) -> tuple[list[dict[str, Any]], list[str]]:
    """(its containers, the names of its volumes)."""
    label = {"label": f"io.nunet.dms.job_id={job_id}"}
    volumes = [volume["Name"] for volume in api.volumes(filters=label)["Volumes"] or ()]
    return list(api.containers(all=True, filters=label)), volumes


async def test_names_modes_and_kinds_of_all_sorts_come_back_and_nothing_else(
    executor: DockerExecutor, tmp_path: Path
) -> None:
    long = "d/" * 20 + "n" * 200
    script = (
        f"cd; mkdir -p {'d/' * 20}; echo long > {long}; echo shut > shut; chmod 0 shut; mkdir no; echo in > no/in; "
        "chmod 0 no; echo a > a; ln a b; ln -s /etc/passwd link; mkfifo pipe; mkdir empty; echo odd > -rf; "
        "printf x > \"$(printf 'two\\nlines')\"; printf x > \"$(printf 'bad\\377')\""
    )
    spec = shell_spec(script)
    await launch(executor, spec)
    await ended(executor, spec.job_id)
    await packed(executor, spec.job_id, tmp_path / "x.tar.gz")
    with tarfile.open(tmp_path / "x.tar.gz") as tar:
        found = {member.name.removeprefix("workspace/"): member for member in tar}
    assert {"shut", "no/in", "a", "b", "empty", "-rf", "two\nlines", long} <= found.keys()
    assert all(member.isreg() or member.isdir() for member in found.values())
    assert not {"link", "pipe"} & found.keys()
    assert file_in(tmp_path / "x.tar.gz", "workspace/b") == b"a\n"
    some = await executor.pack(spec.job_id, tmp_path / "y.tar.gz", MIB, "", Selection(patterns=("-rf", "b", "no")))
    assert some is not None
    with tarfile.open(tmp_path / "y.tar.gz") as tar:
        assert tar.getnames() == ["workspace", "workspace/-rf", "workspace/b", "workspace/no/in"]


async def test_as_many_files_as_there_may_be_are_archived_by_their_names(
    executor: DockerExecutor, tmp_path: Path
) -> None:
    """Their names are more than all pipes between here and the program hold."""
    script = f"cd; mkdir {'n' * 50}; cd {'n' * 50}; seq 60000 | sed s/^/f/ | xargs touch; echo 1 > f1"
    spec = shell_spec(script, 512)
    await launch(executor, spec)
    assert (await ended(executor, spec.job_id)).exit_code == 0
    some = await executor.pack(spec.job_id, tmp_path / "x.tar.gz", MIB, "", Selection(patterns=("n*/f*",)))
    assert some is not None
    assert some.files == 60_000
    assert file_in(tmp_path / "x.tar.gz", f"workspace/{'n' * 50}/f1") == b"1\n"


async def test_a_file_of_holes_is_refused_before_a_byte_of_it_is_read(executor: DockerExecutor, tmp_path: Path) -> None:
    spec = shell_spec("cd; dd if=/dev/zero of=holes bs=1M seek=1000000 count=0; echo 1 > small")
    await launch(executor, spec)
    await ended(executor, spec.job_id)
    with pytest.raises(ArchiveRefused, match="more than 64 MiB"):
        await executor.pack(spec.job_id, tmp_path / "x.tar.gz", 64 * MIB)
    some = await executor.pack(spec.job_id, tmp_path / "x.tar.gz", MIB, "", Selection(patterns=("small",)))
    assert some is not None
    assert some.files == 1


async def test_room_and_files_are_bounded(executor: DockerExecutor, tmp_path: Path) -> None:
    script = "cd; dd if=/dev/zero of=big bs=1M count=200 2>&1 | grep -c 'No space'; rm big"
    spec = shell_spec(script, 128)
    await launch(executor, spec)
    await ended(executor, spec.job_id)
    assert await executor.pack(spec.job_id, tmp_path / "x.tar.gz", MIB) is None


async def test_what_the_holder_may_is_to_read_and_no_more(executor: DockerExecutor, api: APIClient) -> None:
    spec = shell_spec("sleep 600")
    await launch(executor, spec)
    containers, volumes = of_job(api, spec.job_id)
    (holder,) = [one for one in containers if one["Labels"].get("io.nunet.dms.part") == "holder"]
    found: dict[str, Any] = api.inspect_container(holder["Id"])
    host = found["HostConfig"]
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], ["DAC_READ_SEARCH"])
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["RestartPolicy"]["Name"]) == ("none", True, "no")
    assert "no-new-privileges:true" in host["SecurityOpt"]
    (volume,) = volumes
    options = api.inspect_volume(volume)["Options"]
    assert options["type"] == "tmpfs"
    assert "size=128m,nr_inodes=65536,mode=1777,nosuid,nodev" in options["o"]


@pytest.mark.parametrize("part", ["holder", "job"])
async def test_what_a_crash_left_is_found_by_its_labels_and_removed(
    executor: DockerExecutor, api: APIClient, part: str
) -> None:
    """Behind each step of the making: with its volume alone, with a holder, with all."""
    spec = shell_spec("true")
    await executor.prepare(spec)
    await executor.fill(spec, None, MIB)
    containers, volumes = of_job(api, spec.job_id)
    assert (len(containers), len(volumes)) == (1, 1)
    if part == "holder":
        await asyncio.to_thread(api.remove_container, containers[0]["Id"], force=True)
    assert spec.job_id in await executor.list_jobs()
    await executor.remove(spec.job_id)
    assert of_job(api, spec.job_id) == ([], [])
    assert spec.job_id not in await executor.list_jobs()


async def test_a_workspace_whose_holder_was_ended_is_gone_and_said_to_be(
    executor: DockerExecutor, api: APIClient, tmp_path: Path
) -> None:
    spec = shell_spec("cd; echo 1 > x")
    await launch(executor, spec)
    await ended(executor, spec.job_id)
    containers, _ = of_job(api, spec.job_id)
    (holder,) = [one for one in containers if one["Labels"].get("io.nunet.dms.part") == "holder"]
    await asyncio.to_thread(api.restart, holder["Id"], timeout=0)
    with pytest.raises(ExecutorUnavailable, match="the workspace is gone"):
        await executor.pack(spec.job_id, tmp_path / "x.tar.gz", MIB)


async def test_a_checkpoint_is_filled_in_anew_where_the_engine_was_restarted_before_the_start(
    executor: DockerExecutor, api: APIClient, tmp_path: Path
) -> None:
    first = shell_spec("cd; echo 7 > state")
    await launch(executor, first)
    await ended(executor, first.job_id)
    await packed(executor, first.job_id, tmp_path / "one.tar.gz")
    second = shell_spec("cd; cat state > seen; rm state")
    await executor.prepare(second)
    await executor.fill(second, tmp_path / "one.tar.gz", MIB)
    await executor.create(second)
    containers, _ = of_job(api, second.job_id)
    (holder,) = [one for one in containers if one["Labels"].get("io.nunet.dms.part") == "holder"]
    await asyncio.to_thread(api.stop, holder["Id"], timeout=0)  # as the engine does
    await executor.fill(second, tmp_path / "one.tar.gz", MIB)
    await executor.start(second.job_id)
    await ended(executor, second.job_id)
    await packed(executor, second.job_id, tmp_path / "two.tar.gz")
    assert file_in(tmp_path / "two.tar.gz", "workspace/seen") == b"7\n"


async def test_inputs_are_put_in_anew_where_the_engine_was_restarted_before_the_start(
    executor: DockerExecutor, api: APIClient, tmp_path: Path
) -> None:
    """And only there: what is in the workspace is neither fetched nor put again."""
    async with (
        web_server() as server,
        running_node(
            tmp_path, executor=lambda _: DockerExecutor(NODE, IN_VOLUMES), input_networks=("127.0.0.1",)
        ) as node,
    ):
        own = node.executor
        server.answers["/data"] = content(b"given\n")
        spec, asked = shell_spec("cat /workspace/data"), request()
        params = msgspec.structs.replace(asked.params, inputs=(Input(url=server.url("/data")),))
        deployment = Deployment(spec.job_id)
        asked = msgspec.structs.replace(asked, params=params)
        deployment.accept(SERVICE_PROVIDER, asked, "1", Resources(cpu_mhz=1, memory_mb=1), ())
        await node.log.save(deployment)
        furnishing = node.services.compute_provider._furnishing
        await own.prepare(spec)
        for _ in range(2):
            deployment = cast("Deployment", node.log.load(Deployment, spec.job_id))
            await furnishing.furnish(deployment, spec)
        assert len(server.asked) == 1
        assert await own.inputs_in(spec.job_id) == {1}
        await own.create(spec)
        containers, _ = of_job(api, spec.job_id)
        (holder,) = [one for one in containers if one["Labels"].get("io.nunet.dms.part") == "holder"]
        await asyncio.to_thread(api.stop, holder["Id"], timeout=0)  # as the engine does
        assert await own.inputs_in(spec.job_id) == set()
        await furnishing.furnish(deployment, spec)
        await own.start(spec.job_id)
        assert texts(await read_all(own, spec.job_id)) == ["given"]


async def test_a_program_that_waits_for_a_jobs_pipe_is_ended_with_all_that_it_began(
    executor: DockerExecutor, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it says nothing for too long, and when nobody waits for it any more; and its holder stays."""
    spec = shell_spec("cd; mkfifo pipe; echo made; sleep 600")
    await launch(executor, spec)
    async with aclosing(executor.follow(spec.job_id, None)) as told:
        assert [line.text for line in await anext(told)] == ["made"]
    containers, _ = of_job(api, spec.job_id)
    (holder,) = [one["Id"] for one in containers if one["Labels"].get("io.nunet.dms.part") == "holder"]
    version = await executor._calls.version()
    holders = Holders(engine_address(SETTINGS.base_url), executor._calls, executor._containers)
    asleep = len(api.top(holder)["Processes"])
    waits = "cat /workspace/pipe | sha256sum | head -c 10"

    async def all_ended() -> bool | None:
        return len(api.top(holder)["Processes"]) == asleep or None

    def give_up() -> None:
        with holders.program(holder, version, waits, "0:0"):
            assert len(api.top(holder)["Processes"]) > asleep
            raise RuntimeError

    def hear_nothing() -> None:
        with holders.program(holder, version, waits, "0:0") as stream:
            assert stream._connection.gettimeout() == _QUIET_SECONDS
            stream._connection.settimeout(1.0)  # no sooner: its start may take long
            stream.read(1)

    monkeypatch.setattr("dms.adapters.executors.holders._ENDING_SECONDS", 120.0)
    with pytest.raises(RuntimeError):
        await asyncio.to_thread(give_up)
    await until(all_ended)
    with pytest.raises(ExecutorUnavailable, match="said nothing"):
        await asyncio.to_thread(hear_nothing)
    await until(all_ended)
    await holders.run(spec.job_id, "true")


async def test_what_is_looked_at_again_is_not_opened_unless_it_is_a_file(executor: DockerExecutor) -> None:
    spec = shell_spec("cd; mkfifo pipe; ln -s pipe link; echo 12345 > file; echo made; sleep 600")
    await launch(executor, spec)
    async with aclosing(executor.follow(spec.job_id, None)) as told:
        assert [line.text for line in await anext(told)] == ["made"]
    wanted = b"5 ./pipe\n5 ./link\n5 ./file\n5 ./none\n"
    holders = Holders(engine_address(SETTINGS.base_url), executor._calls, executor._containers)
    holder, version = await holders.running(spec.job_id), await executor._calls.version()

    def digests() -> list[str]:
        with holders.program(holder, version, _DIGESTS.format(input=len(wanted)), "0:0") as stream:
            stream.give(wanted)
            return [line[:64] for line in _lines(stream, threading.Event())]

    digest = hashlib.sha256(b"12345").hexdigest()
    assert await asyncio.to_thread(digests) == ["no file", "no file", digest, "no file"]


async def test_without_a_static_busybox_there_is_none_and_it_says_what_to_install(
    executor: DockerExecutor, tmp_path: Path
) -> None:
    for path in (tmp_path / "none", Path("/bin/sh")):
        with pytest.raises(ExecutionError, match="apt-get install busybox-static"):
            await HelperImage(executor._calls, path).ready()
    assert await executor.workspace_trouble() == ""


def test_a_program_that_needs_a_loader_is_no_static_one() -> None:
    assert is_static(Path("/bin/busybox").read_bytes())
    assert not is_static(Path("/bin/sh").read_bytes())
    assert not is_static(b"\x7fELF\x02\x01" + bytes(100_000)[:90])
    assert not is_static(b"#!/bin/sh\n")


def test_a_program_that_an_engine_which_is_away_can_not_run_leaves_no_socket_open(tmp_path: Path) -> None:
    path = f"{tmp_path}/nobody.sock"
    holders = Holders(EngineAddress(base_url=f"unix://{path}", path=path), cast("Any", None), cast("Any", None))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(ExecutorUnavailable), holders.program("holder", "1.41", "true", "0:0"):
            pass
        gc.collect()
    assert [str(one.message) for one in seen if issubclass(one.category, ResourceWarning)] == []
