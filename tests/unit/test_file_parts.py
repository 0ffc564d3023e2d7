"""The part of a file that is on its way."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest

from dms.application.files.file_parts import PartFile
from dms.errors import DiskTrouble
from tests.fixtures.waiting import wait_for

LONG_BYTES = 4 << 30


def is_open(path: Path) -> bool:
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of this listing
            if handle.readlink() == path:
                return True
    return False


async def test_who_no_longer_wants_a_part_leaves_nothing_open(tmp_path: Path) -> None:
    """All of it is read first: a transfer that is cancelled meanwhile would pin its place on the disk."""
    part = tmp_path / "file.part"
    with part.open("wb") as file:
        file.truncate(LONG_BYTES)
    opening = asyncio.ensure_future(PartFile.open(part.with_name("file"), LONG_BYTES))
    await wait_for(lambda: is_open(part))
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert not is_open(part)


async def test_a_part_that_cannot_be_read_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = tmp_path / "file.part"
    part.write_bytes(b"begin")

    def broken(_fd: int, _most: int, _after: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", broken)
    with pytest.raises(DiskTrouble):
        await PartFile.open(part.with_name("file"), 10)
    assert not is_open(part)
