"""Opened archives: together they have a bound, and what was looked into longest ago gives way."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.loops import Loops
from dms.application.ports.executor import ArchivedFile
from dms.application.results import contents
from dms.application.results.contents import Contents
from dms.application.results.result_files import ResultFiles


class _Received:
    """A job of which results came, as the log tells it."""

    results_removed = False

    def __init__(self, key: str, sha256: str) -> None:
        self.key, self.results_received = key, cast("Any", self)
        self.sha256 = sha256


async def test_what_was_looked_into_longest_ago_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, opened = ResultFiles(tmp_path), list[str]()
    files.make()
    jobs = dict[str, _Received]()
    for name in ("one", "two", "three"):
        files.received(name).write_bytes(name.encode())
        jobs[name] = _Received(name, hashlib.sha256(name.encode()).hexdigest())

    async def open_archive(archive: Path, into: Path) -> Sequence[ArchivedFile]:
        opened.append(archive.name)
        await asyncio.to_thread(into.write_bytes, bytes(100))
        return ()

    looking = Contents(cast("Any", None), CheckpointFiles(tmp_path), files, open_archive, Loops())
    monkeypatch.setattr(looking, "_job", jobs.__getitem__)
    monkeypatch.setattr(contents, "MOST_OPENED_BYTES", 250)

    async def look(name: str, at: int) -> None:
        found = await looking.of(name)
        assert found is not None
        os.utime(found.opened, (at, at))

    await look("one", 1)
    await look("two", 2)
    await look("one", 3)
    await look("three", 4)
    assert sorted(job_id for job_id, _, _ in files.list_opened()) == ["one", "three"]
    await look("one", 5)
    assert len(opened) == 3
    monkeypatch.setattr(contents, "MOST_OPENED_BYTES", 50)
    await look("two", 6)  # larger than the bound: it is the only one then
    assert [job_id for job_id, _, _ in files.list_opened()] == ["two"]
