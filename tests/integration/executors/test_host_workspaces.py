"""Workspaces that the DMS mounts itself, and jobs where it may not."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from docker import APIClient

from dms.adapters.executors.docker import DockerExecutor
from dms.adapters.executors.profile import MIB
from dms.adapters.executors.workspace_archive import Owner
from dms.adapters.executors.workspaces import Workspaces
from dms.errors import ExecutionError
from tests.fixtures.docker_executors import SETTINGS, attributes
from tests.fixtures.engine_proxy import SOCKET
from tests.fixtures.images import demo_images
from tests.fixtures.jobs import NODE, launch, read_all, shell_spec, texts

__all__ = ["demo_images"]

pytestmark = pytest.mark.docker


async def test_a_workspace_of_the_host_is_the_only_mount_and_as_narrow_as_the_engines_own(
    demo_images: tuple[str, str], api: APIClient, tmp_path: Path
) -> None:
    made = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, workspaces=tmp_path / "workspaces"))
    spec = shell_spec("grep ' /workspace ' /proc/mounts; ls -a /workspace/..; dd if=/dev/zero of=x bs=1M; id -u", 64)
    spec = msgspec.structs.replace(spec, arguments=(f"cd; {spec.arguments[0]}", ""))
    try:
        found = await attributes(made, api, spec)
        mounts = [(m["Type"], m["Source"], m["Destination"]) for m in found["Mounts"] if m["Type"] != "tmpfs"]
        assert mounts == [("bind", str(tmp_path / "workspaces" / spec.job_id / "workspace"), "/workspace")]
        assert "/workspace" not in found["HostConfig"]["Tmpfs"]
        await made.start(spec.job_id)
        lines = texts(await read_all(made, spec.job_id))
        assert {"rw", "nosuid", "nodev", "size=32768k"} <= set(lines[0].split()[3].split(","))
        assert lines[-1] == "65532"
        folder = tmp_path / "workspaces" / spec.job_id
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 32 * MIB
    finally:
        await made.remove(spec.job_id)
        await made.close()


def test_a_dms_that_may_not_mount_or_whose_engine_is_elsewhere_says_so(
    demo_images: tuple[str, str], tmp_path: Path
) -> None:
    ask = (
        "import pathlib, sys; from dms.adapters.executors.workspaces import Workspaces; "
        "print(Workspaces(pathlib.Path(sys.argv[1]), sys.argv[2]).trouble())"
    )
    less = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    command = [*less, sys.executable, "-c", ask, str(tmp_path / "workspaces"), SOCKET]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "Operation not permitted" in done.stdout
    elsewhere = subprocess.run(
        ["unshare", "--mount", *command[len(less) :]], capture_output=True, text=True, timeout=120, check=True
    )
    assert "does not see what the DMS mounts" in elsewhere.stdout
    assert Workspaces(tmp_path / "workspaces", SOCKET).trouble() == ""
    assert "another host" in Workspaces(tmp_path / "workspaces", "").trouble()


def test_what_a_dms_killed_during_its_first_mount_left_is_no_trouble_and_is_unmounted(
    demo_images: tuple[str, str], tmp_path: Path
) -> None:
    left = tmp_path / "workspaces" / ".probe"
    left.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "dms-workspace", left], check=True, timeout=120)
    try:
        assert Workspaces(tmp_path / "workspaces", SOCKET).trouble() == ""
        assert not left.exists()
    finally:
        subprocess.run(["umount", "--lazy", "--quiet", left], check=False, timeout=120)


def test_jobs_that_begin_at_once_all_find_that_there_can_be_workspaces(
    demo_images: tuple[str, str], tmp_path: Path
) -> None:
    with ThreadPoolExecutor(8) as pool:
        for turn in range(20):
            workspaces = Workspaces(tmp_path / str(turn), SOCKET)
            found = [pool.submit(workspaces.trouble) for _ in range(8)]
            assert {each.result(120) for each in found} == {""}


def test_a_workspace_may_be_removed_by_many_at_once(tmp_path: Path) -> None:
    workspaces = [Workspaces(tmp_path / "workspaces", SOCKET) for _ in range(2)]
    with ThreadPoolExecutor(8) as threads:
        for number in range(200):
            workspaces[0].make(job := f"job-{number}", 8, None, 0, Owner(65532, 65532))
            list(threads.map(lambda each, job=job: each.remove(job), workspaces * 4))
            assert not workspaces[0].is_here(job)


async def test_without_the_right_to_mount_jobs_run_without_checkpoints_and_can_not_go_on_from_one(
    demo_images: tuple[str, str], tmp_path: Path
) -> None:
    """The kernel refuses a mount on a file as it refuses one without rights: with an error."""
    blocked = tmp_path / "workspaces"
    blocked.write_text("in the way")
    made = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, workspaces=blocked))
    spec, other = shell_spec("cd; echo 1 > state; cat state"), shell_spec("true")
    try:
        await launch(made, spec)
        assert texts(await read_all(made, spec.job_id)) == ["1"]
        assert await made.pack(spec.job_id, tmp_path / "x.tar.gz", MIB) is None
        await made.prepare(other)
        with pytest.raises(ExecutionError, match="from a checkpoint"):
            await made.fill(other, tmp_path / "x.tar.gz", MIB)
    finally:
        for each in (spec, other):
            await made.remove(each.job_id)
        await made.close()
