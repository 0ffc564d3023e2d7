"""What somebody else put into a folder of the DMS keeps it neither from starting nor from tidying up the rest."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from msgspec.structs import replace

from dms.adapters.executors.process import ProcessExecutor
from dms.adapters.executors.workspaces import Workspaces
from dms.application.files.user_files import Inbox
from dms.application.inputs.input_files import InputFiles
from dms.errors import ExecutorUnavailable, InvalidInput
from tests.fixtures.jobs import launch, shell_spec
from tests.integration.http.node import Node, running_node

JOB = "0198c0de-0000-7000-8000-000000000000"
STRANGE = ("lost+found", "a b", "ü", "-x")


def test_only_folders_with_ids_of_jobs_are_workspaces_and_others_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (*STRANGE, JOB, ".probe"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").touch()
    workspaces = Workspaces(tmp_path, "")
    assert [*workspaces.jobs(), *workspaces.jobs()] == [JOB, JOB]
    [told] = caplog.records
    assert all(name in told.message for name in (*STRANGE, "notes.txt"))


def test_a_file_among_the_inputs_of_jobs_stays_and_the_rest_goes(tmp_path: Path) -> None:
    files = InputFiles(tmp_path, 10)
    files.make()
    stray, left = tmp_path / "inputs" / "jobs" / "notes.txt", files.place(JOB, 1)
    stray.touch()
    left.touch()
    files.tidy(lambda _: False)
    assert list(stray.parent.iterdir()) == [stray]


def test_a_folder_in_the_cache_of_inputs_takes_none_of_its_room(tmp_path: Path) -> None:
    files = InputFiles(tmp_path, 10)
    files.make()
    (tmp_path / "inputs" / "cache" / "lost+found").mkdir()
    place = files.place(JOB, 1)
    for number in range(3):
        place.write_bytes(b"%05d" % number)
        files.cache(str(number), "ab" * 32, place)
        place.unlink()
    assert len(list((tmp_path / "inputs" / "cache").iterdir())) == 3


def test_a_folder_among_incoming_files_stays_and_the_rest_goes(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    inbox.prepare(())
    stray = tmp_path / ".incoming" / "lost+found"
    stray.mkdir()
    for name in (f"{JOB}.part", "other.part"):
        inbox.place(name).touch()
    inbox.prepare((JOB,))
    assert {path.name for path in stray.parent.iterdir()} == {"lost+found", f"{JOB}.part"}


async def test_the_dms_starts_though_there_are_strange_entries(tmp_path: Path) -> None:
    for folder in ("processes", "inputs/jobs", "inputs/cache", "received_files/.incoming", "created_results"):
        for name in STRANGE:
            (tmp_path / folder / name).mkdir(parents=True)
        (tmp_path / folder / "notes.txt").touch()
    async with running_node(tmp_path, runs_for_peers=True) as node:
        await node.services.compute_provider.start()
        await node.services.compute_provider.close()
        await node.services.transfers.take_up([])


@pytest.mark.parametrize(
    "error", [ExecutorUnavailable("its folder is busy"), InvalidInput("no job id"), OSError(5, "Input/output error")]
)
async def test_a_leftover_that_can_not_be_removed_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    caplog.set_level(logging.WARNING)
    async with running_node(tmp_path, runs_for_peers=True) as node:
        stuck, *_ = sorted([await left_behind(node) for _ in range(3)])
        remove = ProcessExecutor.remove

        async def failing(self: ProcessExecutor, job_id: str) -> None:
            if job_id == stuck:
                raise error
            await remove(self, job_id)

        monkeypatch.setattr(ProcessExecutor, "remove", failing)
        assert await node.services.compute_provider.leftovers.sweep() == [stuck]
        assert await node.executor.list_jobs() == [stuck]
        assert f"job {stuck} can't be removed" in caplog.text
        monkeypatch.setattr(ProcessExecutor, "remove", remove)
        assert await node.services.compute_provider.leftovers.sweep() == []


async def test_a_sweep_ends_where_the_engine_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_node(tmp_path, runs_for_peers=True) as node:
        await left_behind(node)

        async def away(*_: object) -> None:
            raise ExecutorUnavailable("the engine is away")

        with monkeypatch.context() as patch:
            for name in ("remove", "check"):
                patch.setattr(ProcessExecutor, name, away)
            with pytest.raises(ExecutorUnavailable):
                await node.services.compute_provider.leftovers.sweep()
        assert await node.services.compute_provider.leftovers.sweep() == []


async def left_behind(node: Node) -> str:
    """A job that our log does not know, and that does not run."""
    spec = replace(shell_spec("true"), node_id=node.services.signer.peer_id)
    job_id = await launch(node.executor, spec)
    await node.executor.stop(job_id, 0.0)
    return job_id
