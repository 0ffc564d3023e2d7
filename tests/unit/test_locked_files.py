"""SQLite's locks stay, whatever of a data folder is looked into: other programs see that a database is in use."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from dms.application.files.file_parts import open_regular
from dms.application.records.redaction import black_out, holding
from dms.database import SUFFIXES, beside, connect
from dms.errors import Forbidden
from dms.locked_files import looking_into

OTHER_PROGRAM = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT * FROM words").fetchall()
connection.close()  # as the last one, it would delete the write-ahead log
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "words.db"


@pytest.fixture
def connection(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(database)) as made:
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("CREATE TABLE words (word TEXT)")
        made.execute("INSERT INTO words VALUES ('written')")
        yield made


def stays_in_use(database: Path) -> bool:
    """Whether a program that comes and goes leaves the files alone."""
    files = [beside(database, suffix) for suffix in ("", *SUFFIXES)]
    before = [file.stat().st_ino for file in files]
    subprocess.run([sys.executable, "-c", OTHER_PROGRAM, database], check=True, timeout=120)
    return [file.stat().st_ino for file in files if file.exists()] == before


def descriptors(folder: Path) -> int:
    """Those of files below it."""
    found = 0
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of this listing
            found += handle.readlink().is_relative_to(folder)
    return found


def test_a_search_through_the_folder_keeps_the_locks(database: Path, connection: sqlite3.Connection) -> None:
    (database.parent / "other").write_text("written")
    assert holding(database.parent, [b"written"]) == ["other", "words.db-wal"]
    known = descriptors(database.parent)
    for _ in range(3):
        connection.execute("INSERT INTO words VALUES ('later')")
        assert holding(database.parent, [b"later"]) == ["words.db-wal"]
        assert descriptors(database.parent) == known
    assert black_out([beside(database, "-wal")], [b"nowhere"]) == 0
    assert stays_in_use(database)
    assert connection.execute("SELECT count(*) FROM words").fetchone() == (4,)


@pytest.mark.parametrize("suffix", ["", *SUFFIXES])
def test_under_another_name_it_is_not_opened(database: Path, connection: sqlite3.Connection, suffix: str) -> None:
    other = database.parent / "report.txt"
    other.hardlink_to(beside(database, suffix))
    with pytest.raises(Forbidden, match=r"'report\.txt' is a database that the DMS uses"):
        open_regular(other)
    with looking_into(other, os.O_RDONLY) as handle:
        assert os.fstat(handle).st_ino == other.stat().st_ino
    assert stays_in_use(database)


def test_links_are_not_followed(database: Path, connection: sqlite3.Connection) -> None:
    link = database.parent / "link"
    link.symlink_to(beside(database, "-shm"))
    with pytest.raises(OSError, match="not a regular file"), looking_into(link, os.O_RDONLY):
        pass
    assert stays_in_use(database)


def test_who_is_to_write_gets_no_descriptor_that_only_reads(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before")
    with looking_into(file, os.O_RDONLY) as read, looking_into(file, os.O_RDWR) as written:
        os.pwrite(written, b"after", 0)
        assert os.pread(read, 5, 0) == b"after"
        with looking_into(file, os.O_RDWR) as again:
            assert again == written
    assert descriptors(tmp_path) == 0


def test_who_writes_into_a_pipe_is_not_told_that_somebody_reads(tmp_path: Path) -> None:
    """A job of somebody else may wait there."""
    os.mkfifo(tmp_path / "pipe")
    writer = subprocess.Popen(["sh", "-c", f"echo > {tmp_path}/pipe"])
    try:
        for _ in range(200):
            assert holding(tmp_path, [b"written"]) == []
        assert (tmp_path / "pipe").read_bytes() == b"\n"
        assert writer.wait(120) == 0
    finally:
        writer.kill()
        writer.wait(120)


def test_any_other_file_is_closed_again(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with looking_into(tmp_path / "file", os.O_RDONLY) as handle:
        assert descriptors(tmp_path) == 1
        assert os.fstat(handle).st_ino == (tmp_path / "file").stat().st_ino
    assert descriptors(tmp_path) == 0


def test_what_was_kept_open_is_closed_once_nobody_locks_it(database: Path) -> None:
    first = connect(database)
    first.execute("CREATE TABLE words (word TEXT)")
    with looking_into(database, os.O_RDONLY) as one, looking_into(database, os.O_RDONLY) as other:
        assert one == other
    first.close()
    assert descriptors(database.parent) == 1
    del first
    connect(database.with_name("another.db")).close()
    assert descriptors(database.parent) == 0


def test_of_a_database_that_is_closed_nothing_is_kept_open(database: Path) -> None:
    connection = connect(database)
    connection.execute("CREATE TABLE words (word TEXT)")
    connection.close()
    del connection
    with looking_into(database, os.O_RDONLY):
        pass
    assert descriptors(database.parent) == 0
    os.close(open_regular(database))
