"""Opening SQLite databases, wherever they lie and whatever they are called."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.database import connect
from dms.errors import AlreadyRunning, ConfigError
from tests.fixtures.disks import own_disk

NAMES = [
    b"node#1", b"50%20off", b"a?mode=memory", b"with blank", b"caf\xc3\xa9", b"latin-\xe9", b"%", b"%00", b"x&y=z",
    b"a;b", b"line\nend", b"#", b"file:x", b"'quoted\"", b"-",
]  # fmt: skip


def written(database: Path, text: str) -> None:
    with closing(connect(database)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS word (text)")
        connection.execute("INSERT INTO word VALUES (?)", (text,))


def words(database: Path) -> list[str]:
    with closing(connect(database, read_only=True)) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM word")]


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_every_name_of_a_folder_or_file_is_a_place_of_its_own(tmp_path: Path, name: bytes) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    folder.mkdir()
    for database in (folder / "events.db", folder / folder.name):
        written(database, "here")
        assert words(database) == ["here"]
    assert entries(tmp_path) == {os.fsdecode(name)}
    ours = {os.fsdecode(name), "events.db"}
    assert ours <= entries(folder) <= ours | {f"{one}{end}" for one in ours for end in ("-wal", "-shm")}


def test_a_relative_path_is_taken_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(Path("a?b#c%20.db"), "here")
    assert words(tmp_path / "a?b#c%20.db") == words(Path("./a?b#c%20.db")) == ["here"]
    assert words(Path(f"//{tmp_path}/a?b#c%20.db")) == ["here"]


@pytest.fixture
def umask_000() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask_000")
def test_what_is_made_is_for_its_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "dangling.db")
    recorders = [SQLiteRecorder(tmp_path / "events.db"), SQLiteRecorder(link)]
    names = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    for recorder in recorders:
        recorder.close()
    made = {f"{name}{end}" for name in ("events.db", "dangling.db") for end in ("", "-wal", "-shm", ".lock")}
    assert names == dict.fromkeys({*made, "link.db"}, 0o600)


def test_what_an_older_version_left_open_is_closed(tmp_path: Path) -> None:
    database = tmp_path / "views.db"
    written(database, "here")
    database.chmod(0o644)
    connect(database).close()
    assert database.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["folder", "pipe"])
@pytest.mark.parametrize("read_only", [True, False])
def test_what_is_no_file_is_named(tmp_path: Path, kind: str, read_only: bool) -> None:
    database = tmp_path / "events.db"
    database.mkdir() if kind == "folder" else os.mkfifo(database)
    with pytest.raises(sqlite3.OperationalError, match=r"events\.db can't be opened: it is "):
        connect(database, read_only=read_only)


# --- one owner ---------------------------------------------------------------------------------------
OWN = """
import sys
from pathlib import Path
from dms.adapters.eventlog.sqlite import SQLiteRecorder
SQLiteRecorder(Path(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("other", ["the same", "a link", "a link to the folder", "a hard link", "a relative path"])
@pytest.mark.parametrize("where", ["here", "in another process"])
def test_a_log_has_one_owner_by_whatever_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str, where: str
) -> None:
    folder, elsewhere = tmp_path / "one", tmp_path / "two"
    folder.mkdir()
    database = folder / "events.db"
    owner = SQLiteRecorder(database)
    name = database
    if other == "a link to the folder":
        elsewhere.symlink_to(folder)
        name = elsewhere / "events.db"
    elif other == "a relative path":
        monkeypatch.chdir(tmp_path)
        name = Path("one/../one/events.db")
    elif other != "the same":
        elsewhere.mkdir()
        name = elsewhere / "log.db"
        name.symlink_to(database) if other == "a link" else name.hardlink_to(database)
    if where == "here":
        with pytest.raises(AlreadyRunning, match=f"{name.name} is in use"):
            SQLiteRecorder(name)
    else:
        ended = subprocess.run([sys.executable, "-c", OWN, name], capture_output=True, text=True, check=False)
        assert "AlreadyRunning" in ended.stderr
    owner.close()
    SQLiteRecorder(name).close()


# --- where nothing can be written --------------------------------------------------------------------
@pytest.fixture
def medium(tmp_path: Path) -> Iterator[Path]:
    """A folder; what is in it by then is on a read-only medium once `read_only` was called."""
    with own_disk(tmp_path / "medium", "16m") as folder:
        yield folder


def read_only(medium: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", medium], check=True)


def test_a_database_on_a_read_only_medium_is_read(medium: Path) -> None:
    database = medium / "events.db"
    written(database, "here")
    read_only(medium)
    assert words(database) == ["here"]
    with pytest.raises(ConfigError, match="Read-only"):
        SQLiteRecorder(database)


def test_commits_that_wait_in_the_journal_are_not_left_out_unsaid(medium: Path, tmp_path: Path) -> None:
    """As after a kill: -wal has content, and there is no -shm to read it with."""
    with closing(connect(tmp_path / "events.db")) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE word (text)")
        for name in ("events.db", "events.db-wal"):
            (medium / name).write_bytes((tmp_path / name).read_bytes())
    read_only(medium)
    with pytest.raises(sqlite3.OperationalError, match=r"events\.db-wal holds commits .* copy "):
        words(medium / "events.db")


AS_NOBODY = """
import os, sys
from pathlib import Path
from dms.database import connect
os.setgroups([]); os.setgid(65534); os.setuid(65534); os.umask(0)
print([connect(Path(sys.argv[1]), read_only=True).execute("SELECT text FROM word").fetchall() for _ in "ab"])
"""


@pytest.mark.parametrize("folder_mode", [0o777, 0o555], ids=oct)
def test_a_database_without_write_permission_is_read_and_leaves_nothing_behind(folder_mode: int) -> None:
    with TemporaryDirectory() as name:  # others can't reach tmp_path
        folder, database = Path(name), Path(name, "events.db")
        written(database, "here")
        database.chmod(0o444)
        folder.chmod(folder_mode)
        ended = subprocess.run([sys.executable, "-c", AS_NOBODY, database], capture_output=True, text=True, check=False)
        assert ended.stdout.strip() == "[[('here',)], [('here',)]]", ended.stderr
        assert entries(folder) == {"events.db"}
