"""Whatever a provider writes of a workspace, a requester takes: both have the same bounds, to the byte."""

from __future__ import annotations

import io
import os
import random
import tarfile
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.adapters.executors.archive_opener import open_archive
from dms.adapters.executors.archive_writer import can_be_packed, header, write_archive
from dms.adapters.executors.pack import pack
from dms.adapters.executors.workspace_archive import (
    DEPTH,
    ENTRIES,
    LATEST_TIME,
    NAME_BYTES,
    PATH_BYTES,
    TOP,
    Unpacked,
    check_archive,
)
from dms.errors import ArchiveRefused, ExecutorUnavailable
from tests.fixtures.disks import own_disk

MIB = 1024 * 1024
TIMES = (-1, 0, 8**11 - 1, 8**11, LATEST_TIME, LATEST_TIME + 1, 10**18 - 1, 10**18, 2**63 - 1)

Item = tuple[tuple[str, ...], bytes, int]


def written(items: Sequence[Item], into: Path, max_bytes: int = MIB) -> Unpacked:
    """(path, content; b"" for a folder, time) of each. Answers what a requester finds in the archive."""

    def add(tar: tarfile.TarFile, item: Item) -> None:
        parts, content, mtime = item
        kind = tarfile.REGTYPE if content else tarfile.DIRTYPE
        tar.addfile(header(parts, 0o755, kind, mtime, len(content)), io.BytesIO(content))

    total = sum(len(content) for _, content, _ in items)
    write_archive(items, total, max_bytes, into, add, threading.Event())
    return check_archive(into, max_bytes)


@st.composite
def paths(draw: st.DrawFn) -> tuple[str, ...]:
    """Some that are just too deep or too long."""
    if draw(st.booleans()):
        return tuple(["d"] * draw(st.integers(DEPTH - 2, DEPTH + 1)))
    letter = draw(st.sampled_from("aé€"))
    size = draw(st.integers(PATH_BYTES - 3, PATH_BYTES + 2)) - len(TOP) - 1
    parts = [letter * (draw(st.integers(NAME_BYTES - 60, NAME_BYTES)) // len(letter.encode())) for _ in range(4)]
    while (left := size - len("/".join(parts).encode()) - 1) < 1:
        parts.pop()
    return (*parts, "x" * min(left, NAME_BYTES + 1))


@given(path=paths(), content=st.sampled_from([b"", b"x"]), mtime=st.sampled_from(TIMES))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_names_and_times_at_the_bounds(tmp_path: Path, path: tuple[str, ...], content: bytes, mtime: int) -> None:
    if can_be_packed(path):
        assert written([(path, content, mtime)], tmp_path / "x.tar.gz") == Unpacked(bool(content), len(content))


def test_a_folder_whose_path_is_as_long_as_it_may_be_and_a_time_that_no_calendar_has(tmp_path: Path) -> None:
    workspace = tmp_path / "job"
    folder = workspace / "/".join((*["n" * 250] * 4, "n" * (PATH_BYTES - len(TOP) - 5 - 1000)))
    folder.mkdir(parents=True)
    assert len(f"{TOP}/{folder.relative_to(workspace)}") == PATH_BYTES
    (workspace / "late").write_bytes(b"x")
    os.utime(workspace / "late", ns=(0, 2**63 - 1))
    found = pack(workspace, tmp_path / "x.tar.gz", MIB, "", threading.Event())
    assert found is not None
    assert found.skipped == 0
    assert check_archive(tmp_path / "x.tar.gz", MIB) == Unpacked(1, 1)
    assert [file.path for file in open_archive(tmp_path / "x.tar.gz", tmp_path / "opened", MIB)] == ["late"]


@pytest.mark.parametrize("name", ["{}", "é{}"])  # the second needs a long header for each
def test_as_many_names_as_there_may_be_and_not_one_more(tmp_path: Path, name: str) -> None:
    items = [((name.format(number),), b"x", 0) for number in range(ENTRIES)]
    assert written(items, tmp_path / "x.tar.gz") == Unpacked(ENTRIES, ENTRIES)
    with pytest.raises(ArchiveRefused, match=f"more than {ENTRIES}"):
        written([*items, (("one",), b"x", 0)], tmp_path / "y.tar.gz")


def test_what_begins_like_a_bomb_is_written_so_that_it_is_none(tmp_path: Path) -> None:
    """The reader sees the zeros long before what makes up for them."""
    items = [(("a",), bytes(100 * MIB), 0), (("b",), random.Random(1).randbytes(MIB), 0)]
    assert written(items, tmp_path / "x.tar.gz", 200 * MIB) == Unpacked(2, 101 * MIB)


def test_a_requesters_disk_is_not_filled_by_what_somebody_looks_into(tmp_path: Path) -> None:
    """What is left of it is the event log's."""
    written([(("a",), b"x" * MIB, 0)], tmp_path / "x.tar.gz")
    with own_disk(tmp_path / "opened", "200m") as disk:
        with pytest.raises(ExecutorUnavailable, match="no room"):
            open_archive(tmp_path / "x.tar.gz", disk / "content", MIB)
        assert list(disk.iterdir()) == []
