"""Everything that the DMS makes on the disk is its user's alone, whatever the umask; and it is whole or not there."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dms.adapters.eventlog.archive_writer import SegmentArchive
from dms.adapters.executors.pack import pack
from dms.adapters.executors.process import ProcessExecutor
from dms.adapters.heads.file import HeadFile
from dms.adapters.metadata.file import FILE_NAME
from dms.adapters.nats.place import Place, save
from dms.adapters.service.logs import rotating
from dms.application.files.file_parts import PartFile
from dms.application.files.user_files import Inbox
from dms.application.ports.executor import ExecutionSpec
from dms.disk import append_to, create_file, make_folder, whole_file, write_file
from dms.domain.device import Device, Offer
from dms.domain.heads import Heads
from dms.keys import token_key
from dms.process import log_to_file
from tests.fixtures.live_folders import below
from tests.fixtures.waiting import wait_for
from tests.fixtures.worlds import WHOLE
from tests.integration.http.node import running_node


@pytest.fixture(params=[0o000, 0o022, 0o277], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def open_to_others(folder: Path, *, but: str = "no such") -> dict[str, str]:
    """What is not exactly 0600 or 0700; a sealed output log may be 0400."""
    return {
        str(path.relative_to(folder)): oct(status.st_mode & 0o7777)
        for path, status in below(folder).items()
        if status.st_mode & 0o7777 not in _modes(path, status.st_mode) and but not in path.parts
    }


def _modes(path: Path, mode: int) -> set[int]:
    if stat.S_ISDIR(mode):
        return {0o700}
    return {0o600, 0o400} if path.parent.name == "logs" else {0o600}


@pytest.fixture
def own_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in [one for one in root.handlers if one not in before]:
        root.removeHandler(handler)
        handler.close()


@pytest.mark.usefixtures("umask", "own_logging")
async def test_all_stores_keep_what_they_make_to_themselves(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "above" / "data")
    async with running_node(folder) as node:
        services = node.services
        device = Device(services.network.peer_id)
        device.onboard(Offer(cpu_mhz=2000, memory_mb=6400, channel="nunet-test", payment_address="addr"), WHOLE)
        await services.log.save(device)
        job = await node.job()
        await node.print_lines(job, ("stdout", "one"))
        await node.submit(job)
        await node.respond(job)
        await node.complete(job)
        await wait_for((folder / FILE_NAME).exists)
        token_key(folder / "token.key", services.log.recorder)  # type: ignore[attr-defined]
        await HeadFile(folder, "me").save(Heads(peer_id="me"))
        save(folder / "nats-relay.json", Place(stream="s", position=1, hash=""))
        archive = SegmentArchive(services.log, services.signer)  # type: ignore[arg-type]
        assert (await archive.step(2**60, 1)).segment is not None
        inbox = Inbox(folder / "received_files")
        inbox.prepare([])
        async with await PartFile.open(inbox.place("id"), 4) as part:
            await part.append(b"text")
            await part.publish()
        inbox.publish("id", "name.txt")
        log_to_file(folder / "dms.log")
        executor = ProcessExecutor("me", folder / "processes")
        await executor.check()
        await executor.create(
            ExecutionSpec(job_id="job-1", node_id="me", image="", arguments=("echo out",), cpu_mhz=1, memory_mb=64)
        )
        await executor.start("job-1")
        async with asyncio.timeout(120):
            while (await executor.inspect("job-1")).exit_code is None:
                await asyncio.sleep(0.02)
        (folder / "processes/job-1/work/result").write_bytes(b"result")
        pack(folder / "processes/job-1/work", folder / "created_checkpoints/job-1.tar.gz", 10**6, "", threading.Event())
        await executor.close()
        made = {path.name for path in below(folder)}
        assert {"events.db-wal", "views.db", "node.key", "dms.log", "spec.json", "state.json", "output.ndjson"} <= made
        assert {"name.txt", "heads.json", f"{job}.ndjson", "archive", "job-1.tar.gz", "resumes", FILE_NAME} <= made
        assert open_to_others(tmp_path / "above", but="work") == {}
    assert open_to_others(tmp_path / "above", but="work") == {}


@pytest.mark.usefixtures("umask")
def test_the_next_log_file_is_as_private_as_the_first(tmp_path: Path) -> None:
    with closing(rotating(tmp_path / "dms.log", each_bytes=100, older=2)) as handler:
        for _ in range(5):
            handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "é" * 60, (), None))
    assert {path.name for path in tmp_path.iterdir()} == {"dms.log", "dms.log.1", "dms.log.2"}
    assert open_to_others(tmp_path) == {}


@pytest.mark.usefixtures("umask")
def test_a_file_that_was_open_to_others_is_closed_when_it_is_written(tmp_path: Path) -> None:
    for name in ("appended", "whole"):
        (tmp_path / name).write_bytes(b"old")
        (tmp_path / name).chmod(0o666)
    append_to(tmp_path / "appended").close()
    write_file(tmp_path / "whole", b"new")
    assert open_to_others(tmp_path) == {}


@pytest.mark.parametrize("place", ["/proc/dms", "/proc/dms/a/b"])
def test_a_file_system_that_makes_no_folders_is_an_error(place: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        make_folder(Path(place))
    assert caught.value.filename == "/proc/dms"


def test_a_folder_that_is_there_is_left_as_its_owner_made_it(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o750)
    make_folder(tmp_path / "shared" / "a" / "b")
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o750
    assert open_to_others(tmp_path / "shared") == {}
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


# --- whole or not at all -----------------------------------------------------------------------------
@pytest.mark.parametrize("fails", ["write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    path = tmp_path / "heads.json"
    write_file(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if fails == "write":
            patch.setattr(os, "fdopen", full)
        elif fails == "fsync":
            patch.setattr(os, "fsync", full)
        else:
            patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space"):
            write_file(path, b"new")
    assert (path.read_bytes(), [one.name for one in tmp_path.iterdir()]) == (b"old", ["heads.json"])
    (tmp_path / ".heads.json.new").write_bytes(b"of one who was killed")
    write_file(path, b"new")
    assert (path.read_bytes(), [one.name for one in tmp_path.iterdir()]) == (b"new", ["heads.json"])


def test_a_file_that_comes_bit_by_bit_is_there_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "export.ndjson"
    path.write_bytes(b"old")

    def cut() -> None:
        with whole_file(path) as file:
            file.write(b"new")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        cut()
    assert (path.read_bytes(), [one.name for one in tmp_path.iterdir()]) == (b"old", ["export.ndjson"])
    with whole_file(path) as file:
        file.write(b"ne")
        assert path.read_bytes() == b"old"
        file.write(b"w")
    assert (path.read_bytes(), [one.name for one in tmp_path.iterdir()]) == (b"new", ["export.ndjson"])
    assert open_to_others(tmp_path) == {}


def test_many_writers_of_one_file_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    contents = [bytes([number]) * 20_000 for number in range(8)]
    threads = [threading.Thread(target=write_file, args=(path, content)) for content in contents * 3]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            seen.add(path.read_bytes())
    assert seen <= set(contents)
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]


def test_a_file_that_is_made_once_is_made_by_one(tmp_path: Path) -> None:
    made: list[bool] = []
    threads = [
        threading.Thread(target=lambda n=n: made.append(create_file(tmp_path / "key", bytes([n]) * 100)))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 7 + [True]
    assert len(set((tmp_path / "key").read_bytes())) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["key"]
