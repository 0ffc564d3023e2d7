"""Which files may be given out, and that received ones never take another's place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dms.application.files.user_files import Inbox, Outbox, Reach
from dms.errors import Forbidden, InvalidInput, NotFound

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
    path.write_bytes(b"content")
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
