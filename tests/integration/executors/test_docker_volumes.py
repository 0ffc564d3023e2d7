"""What an image holds and asks for: its VOLUMEs, its files below them, its STOPSIGNAL; on a real engine."""

from __future__ import annotations

import asyncio
import random
import tarfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from docker import APIClient

from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.adapters.executors.images import parse_reference
from dms.adapters.executors.profile import MIB, stop_signal
from dms.adapters.executors.volumes import volume_paths
from dms.application.ports.executor import InputFile
from dms.errors import ExecutionError, ImageUnavailable
from tests.fixtures.jobs import NODE, ended, file_in, launch, packed, read_all, run, shell_spec, texts
from tests.fixtures.made_images import NewImage, api, image
from tests.fixtures.provider import LIMITS

__all__ = ["api", "image"]

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]

SETTINGS = DockerSettings(limits=LIMITS)


@pytest_asyncio.fixture(params=["on the host", "in volumes", "in the container"])
async def executor(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DockerExecutor]:
    """Where its workspaces are."""
    made = DockerExecutor(NODE, settings_of(request.param, tmp_path))
    before = set(await made.list_jobs())
    yield made
    for job_id in set(await made.list_jobs()) - before:
        await made.remove(job_id)
    await made.close()


def settings_of(where: str, folder: Path) -> DockerSettings:
    on_host = folder / "ws" if where == "on the host" else None
    return msgspec.structs.replace(SETTINGS, workspaces=on_host, workspace_volumes=where == "in volumes")


@pytest_asyncio.fixture(params=["on the host", "in volumes"])
async def outer_executor(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DockerExecutor]:
    """Its workspaces outlive their containers."""
    made = DockerExecutor(NODE, settings_of(request.param, tmp_path))
    before = set(await made.list_jobs())
    yield made
    for job_id in set(await made.list_jobs()) - before:
        await made.remove(job_id)
    await made.close()


def volumes(*paths: str) -> dict[str, Any]:
    """As VOLUME lines of a Dockerfile, word for word."""
    return {path: {} for path in paths}


async def test_what_an_image_holds_below_its_volumes_is_there_may_run_and_may_be_changed(
    outer_executor: DockerExecutor, image: NewImage
) -> None:
    files = {
        "data/greeting": b"hello\n",
        "data/run": b"#!/bin/sh\necho ran\n",
        "data/deep/er": b"x",
        "opt/a/b": b"inner\n",
    }
    name = image(files, Volumes=volumes("/data/", "/opt", "/opt/a", "/empty"))
    script = (
        "cat /data/greeting; /data/run; echo changed > /data/greeting; cat /data/greeting; cat /opt/a/b; "
        "touch /data/new /data/deep/new /opt/new /empty/new && echo written; "
        "cp /bin/busybox /empty/echo; /empty/echo me"
    )
    lines, execution = await run(outer_executor, shell_spec(script, image=name))
    assert texts(lines) == ["hello", "ran", "changed", "inner", "written", "me"], texts(lines, "stderr")
    assert execution.exit_code == 0
    again, _ = await run(outer_executor, shell_spec("cat /data/greeting; ls /empty", image=name))
    assert texts(again) == ["hello"]  # each job has its own


async def test_a_volume_below_the_workspace_and_what_the_image_works_with_are_in_the_checkpoint(
    outer_executor: DockerExecutor, image: NewImage, tmp_path: Path
) -> None:
    files = {"workspace/train.py": b"print()\n", "workspace/state/first": b"1", "workspace/x/y/z": b"2"}
    name = image(files, WorkingDir="/workspace", Volumes=volumes("/workspace/state", "/workspace/x/y"))
    spec = shell_spec("cat train.py state/first x/y/z; echo 5 > state/epoch; echo 6 > new; rm state/first", image=name)
    await launch(outer_executor, spec)
    assert texts(await read_all(outer_executor, spec.job_id)) == ["print()", "12"]
    await ended(outer_executor, spec.job_id)
    archive = tmp_path / "x.tar.gz"
    await packed(outer_executor, spec.job_id, archive)
    for path, content in (("train.py", b"print()\n"), ("state/epoch", b"5\n"), ("new", b"6\n"), ("x/y/z", b"2")):
        assert file_in(archive, f"workspace/{path}") == content

    resumed = shell_spec("cat state/epoch new; ls state; ls x/y", image=name)
    await outer_executor.prepare(resumed)
    await outer_executor.fill(resumed, archive, 64 * MIB)
    lines, execution = await run(outer_executor, resumed)
    assert texts(lines) == ["5", "6", "epoch", "z"]  # what the job had removed does not come back
    assert execution.exit_code == 0


async def test_inputs_take_the_place_of_what_the_image_holds_there(
    outer_executor: DockerExecutor, image: NewImage, tmp_path: Path
) -> None:
    """A file of its own, and a folder that may be a volume, which no other can replace."""
    files = {"workspace/config.yaml": b"image\n", "workspace/data/kept": b"kept\n", "workspace/data/in/a": b"image\n"}
    name = image(files, WorkingDir="/workspace", Volumes=volumes("/workspace/data"))
    (tmp_path / "given").write_bytes(b"input\n")
    with tarfile.open(tmp_path / "given.tar", "w") as tar:
        tar.add(tmp_path / "given", "in/a")
        tar.add(tmp_path / "given", "in/b")
    spec = shell_spec("cat config.yaml data/kept data/in/a data/in/b; echo changed > data/in/a", image=name)
    await outer_executor.prepare(spec)
    await outer_executor.fill(spec, None, MIB)
    for number, (source, place, unpack) in enumerate((("given", "config.yaml", ""), ("given.tar", "data", "tar")), 1):
        put = InputFile(number=number, source=tmp_path / source, place=place, unpack=unpack, max_bytes=MIB)
        await outer_executor.put(spec, put)
    lines, execution = await run(outer_executor, spec)
    assert texts(lines) == ["input", "kept", "input", "input"]
    assert execution.exit_code == 0


async def test_a_link_in_the_workspace_never_leads_a_volume_out_of_it(
    outer_executor: DockerExecutor, image: NewImage, tmp_path: Path
) -> None:
    target = tmp_path / "of-the-host"
    target.mkdir()
    files = {"workspace/out": f"-> {tmp_path}".encode()}
    name = image(files, WorkingDir="/workspace", Volumes=volumes("/workspace/out/of-the-host"))
    spec = shell_spec("touch /workspace/out/of-the-host/seen", image=name)
    await outer_executor.prepare(spec)
    with pytest.raises(ExecutionError, match="link"):
        await outer_executor.create(spec)
    assert list(target.iterdir()) == []
    await outer_executor.remove(spec.job_id)


async def test_what_does_not_fit_into_the_jobs_room_says_so_and_leaves_nothing(
    outer_executor: DockerExecutor, image: NewImage, api: APIClient
) -> None:
    name = image({"data/big": random.Random(1).randbytes(12 * MIB)}, Volumes=volumes("/data"))
    spec = shell_spec("true", 16, name)
    await outer_executor.prepare(spec)
    with pytest.raises(ExecutionError, match=r"/data does not fit into 8 MiB.*ask for more"):
        await outer_executor.create(spec)
    await outer_executor.remove(spec.job_id)
    assert api.containers(all=True, filters={"label": f"io.nunet.dms.job_id={spec.job_id}"}) == []
    lines, _ = await run(outer_executor, shell_spec("wc -c < /data/big", 64, name))
    assert texts(lines) == [str(12 * MIB)]


async def test_a_volume_is_bounded(executor: DockerExecutor, image: NewImage) -> None:
    name = image(Volumes=volumes("//data3/", "/data/../data4"))
    script = "for d in /data3 /data4; do dd if=/dev/zero of=$d/f bs=1M count=200 2>&1 | grep -c 'No space'; done"
    lines, _ = await run(executor, shell_spec(script, 256, name))
    assert texts(lines) == ["1", "1"]


PARTS = ["data", ".", "..", "", "a b", "a:b", "a,b", "é", "d'q", "workspace", "tmp", "var", "etc", "data3", "x" * 100]


def spellings(count: int, rng: random.Random) -> Sequence[str]:
    """Absolute ones with every oddity."""
    return [
        "/" + "/".join(rng.choices(PARTS, k=rng.randint(1, 5))) + rng.choice(["", "/", "//", "/."])
        for _ in range(count)
    ]


def refused(path: str) -> bool:
    try:
        volume_paths(parse_reference("x"), [path])
    except ImageUnavailable:
        return True
    return False


async def test_no_spelling_of_a_volume_ever_gets_a_folder_of_the_hosts_disk(
    executor: DockerExecutor, image: NewImage, api: APIClient
) -> None:
    named = ["/data3/", "//data", "/data/../data5", "/data/./x", "/workspace/", "//workspace//a/", "/tmp/.", "/tmp//y"]
    generated = [path for path in spellings(120, random.Random(22)) if not refused(path)]
    for start in range(0, len(generated), 15):
        name = image(Volumes=volumes(*named, *generated[start : start + 15]))
        spec = shell_spec("true", image=name)
        await executor.prepare(spec)
        await executor.create(spec)
        await executor.start(spec.job_id)
        found: dict[str, Any] = await asyncio.to_thread(api.inspect_container, f"dms-{spec.job_id}")
        for mount in found["Mounts"]:
            if mount["Type"] == "volume":
                volume: dict[str, Any] = await asyncio.to_thread(api.inspect_volume, mount["Name"])
                assert volume["Options"]["type"] == "tmpfs"
                assert spec.job_id in mount["Name"]
            elif mount["Type"] == "bind":
                assert "/workspace" in mount["Source"] or mount["Source"].endswith(tuple("0123456789"))
            else:
                assert mount["Type"] == "tmpfs"
        await ended(executor, spec.job_id)
        await executor.remove(spec.job_id)


@pytest.mark.parametrize(
    "path", ["/", "/..", "//", "/proc", "/proc/x", "/sys/fs", "/dev/shm", "data", "./a", "..", "/a\tb"]
)
async def test_a_volume_that_can_not_be_given_is_refused_before_anything_is_made(
    executor: DockerExecutor, image: NewImage, path: str
) -> None:
    with pytest.raises(ImageUnavailable, match="VOLUME"):
        await executor.prepare(shell_spec("true", image=image(Volumes=volumes(path))))


def test_too_many_volumes_are_refused() -> None:
    with pytest.raises(ImageUnavailable, match="1000 VOLUMEs"):
        volume_paths(parse_reference("x"), [f"/v{n}" for n in range(1000)])


async def test_the_images_stop_signal_stops_the_job_and_the_grace_is_its_own(
    executor: DockerExecutor, image: NewImage
) -> None:
    for written, signal in (("SIGINT", "INT"), ("10", "USR1"), ("SIGRTMIN+3", "37")):
        script = f"trap 'echo saved; exit 3' {signal}; trap 'echo wrong' TERM; echo on; while :; do sleep 0.05; done"
        spec = shell_spec(script, image=image(StopSignal=written))
        await launch(executor, spec)
        reading = asyncio.create_task(read_all(executor, spec.job_id))
        async for some in executor.follow(spec.job_id, None):
            assert some[0].text == "on"
            break
        await executor.stop(spec.job_id, 20)
        assert (texts(await reading), (await ended(executor, spec.job_id)).exit_code) == (["on", "saved"], 3)
        await executor.remove(spec.job_id)


async def test_a_job_that_ignores_its_stop_signal_is_killed_after_the_grace(
    executor: DockerExecutor, image: NewImage
) -> None:
    spec = shell_spec("trap '' WINCH; echo on; while :; do sleep 0.05; done", image=image(StopSignal="SIGWINCH"))
    await launch(executor, spec)
    await executor.stop(spec.job_id, 0.2)
    assert (await ended(executor, spec.job_id)).exit_code == 137


@pytest.mark.parametrize(
    ("written", "meant"),
    [("", "SIGTERM"), (None, "SIGTERM"), ("SIGINT", "SIGINT"), ("quit", "SIGQUIT"), ("9", "9"), ("0", "SIGTERM"),
     ("99", "SIGTERM"), ("SIGNOTHING", "SIGTERM"), ("SIGRTMIN+3", "SIGRTMIN+3"), ("RTMAX-1", "SIGRTMAX-1"),
     ("RTMIN+99", "SIGTERM"), ("-9", "SIGTERM"), ("٣", "SIGTERM"), ("TERM; rm", "SIGTERM")],
)  # fmt: skip
def test_a_stop_signal_that_is_none_counts_as_the_usual_one(written: str | None, meant: str) -> None:
    assert stop_signal({"StopSignal": written}) == meant
