"""Which files may be given out, and that received ones never take another's place."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from msgspec.structs import replace

from dms.application.files import file_parts
from dms.application.files.file_parts import digest_of, measure
from dms.application.files.user_files import Inbox, Outbox, Reach
from dms.application.inputs import own_inputs
from dms.application.inputs.own_inputs import OwnInputs
from dms.domain.inputs import Input
from dms.errors import Conflict, Forbidden, InvalidInput, NotFound
from tests.fixtures.histories import request

CONTENT = b"content"
ID, OTHER = "01990000-0000-7000-8000-000000000001", "01990000-0000-7000-8000-000000000002"


@pytest.fixture
def folder() -> Iterator[Path]:
    """That everybody may enter: pytest's own is private."""
    with TemporaryDirectory(dir="/tmp") as name:
        path = Path(name).resolve()
        path.chmod(0o755)
        yield path


def written(path: Path, mode: int = 0o644) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(CONTENT)
    path.chmod(mode)
    return path


def outbox(folder: Path, *allowed: Path) -> Outbox:
    return Outbox(allowed, [folder / "data"], folder / "data" / "received_files")


def test_without_folders_only_callers_on_this_machine_send_what_anybody_may_read(folder: Path) -> None:
    public, private = written(folder / "public"), written(folder / "private", 0o640)
    assert outbox(folder).check(public, Reach.DAEMONS) == public
    with pytest.raises(Forbidden, match=r"files\.send_folders"):
        outbox(folder).check(public, Reach.NONE)
    if os.geteuid() == 0:  # else the daemon's own rights are what counts
        with pytest.raises(Forbidden, match="runs as root"):
            outbox(folder).check(private, Reach.DAEMONS)
        folder.chmod(0o750)
        with pytest.raises(Forbidden, match="runs as root"):
            outbox(folder).check(public, Reach.DAEMONS)


def test_a_caller_that_is_no_operator_sends_only_what_anybody_may_read_whoever_the_daemon_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public, private = written(folder / "public"), written(folder / "private", 0o640)
    (folder / "data").mkdir()
    received = written(folder / "data" / "received_files" / "a", 0o600)
    for uid in (0, 1000):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert outbox(folder).check(public, Reach.PUBLIC) == public
        for path in (private, received):
            with pytest.raises(Forbidden, match="can't be read by every user"):
                outbox(folder).check(path, Reach.PUBLIC)
    assert outbox(folder).check(private, Reach.DAEMONS) == private


def test_with_folders_any_caller_sends_what_is_in_them_and_nothing_else(folder: Path) -> None:
    inside, outside = written(folder / "share" / "a", 0o600), written(folder / "share-not" / "b")
    allowing = outbox(folder, folder / "share")
    assert allowing.check(inside, Reach.NONE) == inside
    (folder / "share" / "link").symlink_to(outside)
    for path in (outside, folder / "share" / "link", folder / "share" / ".." / "share-not" / "b"):
        with pytest.raises(Forbidden):
            allowing.check(path, Reach.DAEMONS)


def test_the_daemons_own_files_are_never_given_out_but_received_ones_are(folder: Path) -> None:
    key = written(folder / "data" / "node.key")
    received = written(folder / "data" / "received_files" / "a")
    for allowing in (outbox(folder), outbox(folder, folder)):
        with pytest.raises(Forbidden, match="DMS itself"):
            allowing.check(key, Reach.DAEMONS)
        assert allowing.check(received, Reach.DAEMONS) == received


def test_what_is_no_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to(folder / "loop")
    written(folder / "od\x1bd")
    for name, error in (
        ("fifo", Forbidden),
        ("", Forbidden),
        ("loop", NotFound),
        ("none", NotFound),
        ("a\0b", NotFound),
        ("od\x1bd", InvalidInput),
    ):
        with pytest.raises(error):
            outbox(folder, folder).check(folder / name, Reach.DAEMONS)
    with pytest.raises(InvalidInput):
        outbox(folder, folder).check(Path("fifo"), Reach.DAEMONS)


def arrived(inbox: Inbox, transfer_id: str, content: bytes) -> None:
    inbox.place(transfer_id).write_bytes(content)


def test_a_file_is_published_once_however_often_that_is_tried(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "received")
    inbox.prepare([])
    arrived(inbox, ID, b"one")
    assert [inbox.publish(ID, "a.txt") for _ in range(3)] == ["a.txt"] * 3
    arrived(inbox, OTHER, b"two")
    assert [inbox.publish(OTHER, "a.txt") for _ in range(3)] == ["a (1).txt"] * 3
    inbox.forget(ID)
    inbox.forget(OTHER)
    assert (inbox.folder / "a.txt").read_bytes() == b"one"
    assert (inbox.folder / "a (1).txt").read_bytes() == b"two"


def test_a_file_is_published_also_where_none_can_have_two_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on exFAT."""

    def link(_source: Path, target: Path, **_: Any) -> None:
        raise OSError(errno.EEXIST if os.path.lexists(target) else errno.EPERM, "no link")

    monkeypatch.setattr(os, "link", link)
    inbox = Inbox(tmp_path / "received")
    inbox.prepare([])
    arrived(inbox, ID, b"one")
    assert [inbox.publish(ID, "a.txt") for _ in range(2)] == ["a.txt"] * 2
    inbox.prepare([ID])  # as after a crash
    assert inbox.publish(ID, "a.txt") == "a.txt"
    arrived(inbox, OTHER, b"one")
    assert [inbox.publish(OTHER, "a.txt") for _ in range(2)] == ["a (1).txt"] * 2
    inbox.forget(ID)
    inbox.forget(OTHER)
    assert sorted(path.name for path in inbox.folder.rglob("*")) == [".incoming", "a (1).txt", "a.txt"]
    assert [path.read_bytes() for path in inbox.folder.glob("a*")] == [b"one"] * 2


def test_a_link_that_lies_in_the_way_is_not_followed(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "received")
    inbox.prepare([])
    (inbox.folder / "a.txt").symlink_to(tmp_path / "victim")
    arrived(inbox, ID, b"one")
    assert inbox.publish(ID, "a.txt") == "a (1).txt"
    assert not (tmp_path / "victim").exists()


def test_a_start_removes_what_transfers_that_are_over_left(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "received")
    inbox.prepare([])
    for transfer_id in (ID, OTHER):
        inbox.place(f"{transfer_id}.part").write_bytes(b"x")
    inbox.prepare([ID])
    assert inbox.place(f"{ID}.part").exists()
    assert not inbox.place(f"{OTHER}.part").exists()


@pytest.mark.parametrize("read", ["open", "digest"])
async def test_what_is_put_in_a_files_place_while_it_is_looked_at_is_not_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    path = written(folder / "public")
    real_open: Any = io.open

    def swap_and_open(*given: Any, **more: Any) -> Any:
        if not path.is_fifo() and not (isinstance(given[1], int) and given[1] & os.O_PATH):
            path.unlink()
            os.mkfifo(path)
        return real_open(*given, **more)

    if read == "open":
        real_open = os.open
        monkeypatch.setattr(os, "open", swap_and_open)
        found = await measure(outbox(folder).open(path, Reach.PUBLIC))
    else:
        monkeypatch.setattr(io, "open", swap_and_open)
        found = len(CONTENT), await asyncio.wait_for(digest_of(path), 60)
    assert found == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.mark.parametrize("put", [os.mkfifo, Path.symlink_to, Path.hardlink_to])
async def test_of_what_is_put_in_a_checked_files_place_nothing_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[..., object]
) -> None:
    path, secret = written(folder / "public"), written(folder / "private", 0o600)
    allowing = outbox(folder)
    real_check = allowing.check

    def check_and_swap(*given: Any) -> Path:
        found = real_check(*given)
        path.unlink()
        put(path, *([] if put is os.mkfifo else [secret]))
        return found

    monkeypatch.setattr(allowing, "check", check_and_swap)
    asked = replace(request(), params=replace(request().params, inputs=(Input(url=f"file:{path}"),)))
    unused: Any = None
    with pytest.raises(Forbidden):
        await OwnInputs(unused, unused, allowing).measured(asked, Reach.PUBLIC)


async def test_an_input_is_read_whole_once_and_again_when_it_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reads, unused = written(folder / "public"), [], cast("Any", None)
    inputs = OwnInputs(unused, unused, outbox(folder))
    asked = replace(request(), params=replace(request().params, inputs=(Input(url=f"file:{path}"),)))

    async def counted(fd: int) -> tuple[int, str]:
        reads.append(fd)
        return await measure(fd)

    async def digest() -> str:
        (found,) = (await inputs.measured(asked, Reach.PUBLIC)).params.inputs
        assert found.size_bytes == len(path.read_bytes())
        return found.sha256

    monkeypatch.setattr(own_inputs, "measure", counted)
    for _ in range(2):
        assert await digest() == hashlib.sha256(CONTENT).hexdigest()
    assert len(reads) == 2  # changed a moment ago: the next change could have the same time
    monkeypatch.setattr(own_inputs, "SETTLED_SECONDS", -1.0)
    for _ in range(3):
        assert await digest() == hashlib.sha256(CONTENT).hexdigest()
    assert len(reads) == 3
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.unlink()
    written(path).write_bytes(CONTENT[::-1])
    os.utime(path, ns=times)  # as a copy that keeps times
    assert await digest() == hashlib.sha256(CONTENT[::-1]).hexdigest()


async def test_no_more_digests_are_kept_than_may_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unused: Any = None
    monkeypatch.setattr(own_inputs, "SETTLED_SECONDS", -1.0)
    monkeypatch.setattr(own_inputs, "MOST_KNOWN", 3)
    inputs = OwnInputs(unused, unused, outbox(folder))
    files = tuple(Input(url=f"file:{written(folder / str(number))}") for number in range(8))
    await inputs.measured(replace(request(), params=replace(request().params, inputs=files)), Reach.PUBLIC)
    assert len(inputs._known) == 3


async def test_a_file_that_changes_while_it_is_hashed_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(folder / "public")
    fd = outbox(folder).open(path, Reach.PUBLIC)
    monkeypatch.setattr(file_parts._OpenFile, "hash_on", lambda *_: path.write_bytes(b"") or 0)
    with pytest.raises(Conflict, match="changed"):
        await measure(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
