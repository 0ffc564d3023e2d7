"""A folder of the data that lies on another disk, by a link, holds what the same folder beside the others would."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.files.file_exchange import FileExchange
from dms.application.files.file_parts import open_regular
from dms.application.inputs.input_files import InputFiles
from dms.application.results import results_receiver
from dms.application.results.result_files import ResultFiles
from dms.application.results.results_receiver import ReceiverLimits, ResultsReceiver
from dms.disk import share
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.job import Job
from tests.fixtures.disks import own_disk
from tests.fixtures.histories import running_job
from tests.integration.http.node import now_us, running_node

CONTENT = b"archive" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()
JOB = "0198c0de-0000-7000-8000-000000000000"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with own_disk(tmp_path / "disk", "4m") as made:
        yield made


def moved(data: Path, disk: Path, *names: str) -> None:
    """As an operator does it who needs more room for them."""
    for number, name in enumerate(names):
        (place := disk / str(number)).mkdir()
        link = data / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(place)


def test_a_file_is_shared_with_another_disk_whole_or_not_at_all(tmp_path: Path, disk: Path) -> None:
    file, other = tmp_path / "file", disk / "other"
    file.write_bytes(CONTENT)
    other.write_bytes(b"before")
    share(file, other)
    assert other.read_bytes() == CONTENT
    assert other.stat().st_mode & 0o777 == 0o600
    with file.open("ab") as more:
        more.truncate(5 << 20)
    with pytest.raises(OSError) as full:
        share(file, other)
    assert full.value.errno == errno.ENOSPC
    assert other.read_bytes() == CONTENT
    assert list(disk.iterdir()) == [other]


def test_only_regular_files_are_shared(tmp_path: Path, disk: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(CONTENT)
    link.symlink_to(file)
    os.mkfifo(tmp_path / "fifo")
    for source in (link, tmp_path / "fifo", tmp_path):
        with pytest.raises(OSError):
            share(source, disk / "other")
    assert list(disk.iterdir()) == []


@pytest.mark.parametrize("name", ["created_checkpoints", "created_results", "resumes"])
def test_what_lies_on_another_disk_is_given_to_its_owner(tmp_path: Path, disk: Path, name: str) -> None:
    moved(tmp_path, disk, name)
    checkpoints, results = CheckpointFiles(tmp_path), ResultFiles(tmp_path)
    checkpoints.make()
    results.make()
    for path in (checkpoints.created(JOB), checkpoints.resume_out(JOB), results.created(JOB)):
        path.write_bytes(CONTENT)
        os.close(open_regular(path))


@pytest.mark.parametrize("names", [("received_checkpoints",), ("resumes",), ("resumes/out",)])
def test_a_job_goes_on_from_a_checkpoint_on_another_disk(tmp_path: Path, disk: Path, names: tuple[str, ...]) -> None:
    moved(tmp_path, disk, *names)
    files = CheckpointFiles(tmp_path)
    files.make()
    files.received(JOB).write_bytes(CONTENT)
    for given in (f"{JOB}.tar.gz", str(files.received(JOB)), str(tmp_path / "received_checkpoints" / f"{JOB}.tar.gz")):
        assert files.find_received(given) == files.received(JOB)
    assert files.take(files.received(JOB), "next").sha256 == SHA
    assert files.resume_out("next").read_bytes() == CONTENT
    assert [one.name for one in files.list_received()] == [f"{JOB}.tar.gz"]


@pytest.mark.parametrize("name", ["inputs", "inputs/jobs", "inputs/cache"])
def test_inputs_are_cached_on_another_disk(tmp_path: Path, disk: Path, name: str) -> None:
    moved(tmp_path, disk, name)
    files = InputFiles(tmp_path, 1 << 20)
    files.make()
    first, second = files.place(JOB, 1), files.place(JOB, 2)
    first.write_bytes(CONTENT)
    files.cache("source", SHA, first)
    assert files.take("source", SHA, second)
    assert second.read_bytes() == CONTENT


def a_file_for_the_cache(cache: Path) -> None:
    cache.rmdir()
    cache.touch()


def a_folder_for_the_input(cache: Path) -> None:
    (cache / hashlib.sha256(f"{SHA}\nsource".encode()).hexdigest()).mkdir()


BREAKS: dict[str, Callable[[Path], None]] = {
    "removed": Path.rmdir,
    "a file": a_file_for_the_cache,
    "a folder where the input should be": a_folder_for_the_input,
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_cache_in_trouble_fails_no_job(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    files = InputFiles(tmp_path, 1 << 20)
    files.make()
    place = files.place(JOB, 1)
    place.write_bytes(CONTENT)
    BREAKS[how](tmp_path / "inputs" / "cache")
    files.cache("source", SHA, place)
    assert "not kept for later jobs" in caplog.text
    assert not files.take("source", SHA, files.place(JOB, 2))


async def test_results_that_can_not_be_had_from_the_checkpoint_here_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_node(tmp_path) as node:
        checkpoints, results = CheckpointFiles(tmp_path), ResultFiles(tmp_path)

        async def check(_path: Path, _bytes: int) -> None: ...

        exchange = FileExchange(node.services.network)
        receiver = ResultsReceiver(
            node.log, node.services.network, results, checkpoints, exchange, check, now_us, ReceiverLimits()
        )
        job = running_job(new_id())
        name, size, at = f"{job.key}.tar.gz", len(CONTENT), now_us()
        saved = Deployment.CheckpointSaved(number=1, name=name, size_bytes=size, sha256=SHA, saved_at=at)
        job.offer_checkpoint(saved, at + 10**12, 2**30)
        assert job.checkpoint_wanted is not None
        assert job.checkpoint_is_here(job.checkpoint_wanted, name)
        given = Deployment.ResultsSaved(name=name, size_bytes=size, sha256=SHA, saved_at=at)
        job.offer_results(given, at + 10**12, 2**30)
        await node.log.save(job)
        checkpoints.received(job.key).write_bytes(CONTENT)
        offered = job.results_wanted
        assert isinstance(offered, Job.ResultsOffered)
        assert await receiver._shared(job.key, offered, results.incoming(job.key))

        def refused(*_: Path) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(results_receiver, "share", refused)
        assert not await receiver._shared(job.key, offered, results.incoming(job.key))
