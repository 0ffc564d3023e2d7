"""The event log's writer dies, at any point: every command hears of it, and what was written is read by all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from dms.adapters.eventlog import group_commit
from dms.adapters.eventlog.log import SQLiteEventLog
from dms.application.loops import Patience
from dms.errors import LogUnavailable
from tests.fixtures.histories import new_job
from tests.fixtures.waiting import wait_for


@pytest.fixture
async def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SQLiteEventLog]:
    monkeypatch.setattr(group_commit, "WRITER_PATIENCE", Patience(first=0.001, longest=0.01))
    made = SQLiteEventLog(tmp_path / "events.db")
    await made.start()
    yield made
    await made.close()


def once(log: SQLiteEventLog, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That step raises, the next time."""
    part = log._aggregates if name == "let_go" else log._commits
    plain = getattr(part, name)

    def broken(*_: Any) -> Any:
        monkeypatch.setattr(part, name, plain)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(part, name, broken)


async def all_positions(log: SQLiteEventLog) -> list[int]:
    found: list[int] = []
    async with asyncio.timeout(120), aclosing(log.subscribe(0)) as batches:
        async for batch in batches:
            found += [event.position for event in batch]
            if found[-1] == log.head:
                return found
    return found


@pytest.mark.parametrize("step", ["_take_batch", "_publish", "let_go", "_fail"])
@pytest.mark.parametrize("commits_in", ["the loop", "a thread"])
async def test_who_waits_hears_of_it_and_the_next_command_works(
    log: SQLiteEventLog, monkeypatch: pytest.MonkeyPatch, step: str, commits_in: str
) -> None:
    monkeypatch.setattr(log._commits, "_commit_seconds", 0.0 if commits_in == "the loop" else 1.0)
    await log.save(new_job())
    if step == "_fail":
        once(log, "_commit", monkeypatch)
    once(log, step, monkeypatch)
    jobs = [new_job() for _ in range(3)]
    async with asyncio.timeout(120):
        found = await asyncio.gather(*(log.save(job) for job in jobs), return_exceptions=True)
    assert all(isinstance(answer, LogUnavailable) for answer in found)
    assert "the event log's writer failed (ZeroDivisionError: a bug)" in str(found[0])

    async def saved() -> bool:
        try:
            await log.save(new_job())
        except LogUnavailable:  # the pause is not over
            return False
        return True

    async with asyncio.timeout(120):
        while not await saved():
            await asyncio.sleep(0.001)
    assert await all_positions(log) == list(range(1, log.head + 1))
    assert log.head == log.recorder.head
    assert list(log.verify())


async def test_a_writer_that_dies_during_a_slow_commit_leaves_nothing_locked(
    log: SQLiteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log._commits, "_commit_seconds", 1.0)
    begun, may_end = threading.Event(), threading.Event()
    commit = log.recorder.commit

    def slow() -> float:
        begun.set()
        may_end.wait(120)
        return commit()

    monkeypatch.setattr(log.recorder, "commit", slow)
    saving = asyncio.create_task(log.save(new_job()))
    await wait_for(begun.is_set)
    writer = log._commits._loop
    assert writer is not None
    writer._task.cancel()  # as when a library cancels what it should not
    await asyncio.wait({writer._task})
    may_end.set()
    await wait_for(lambda: log.recorder.head == log.head == 1)
    assert await all_positions(log) == [1]
    saving.cancel()
    await writer.close()
    log._commits._loop, log._commits._writing = None, []


async def test_a_listener_that_fails_holds_up_no_command(log: SQLiteEventLog, caplog: pytest.LogCaptureFixture) -> None:
    log.on_commit(lambda *_: 1 // 0)  # type: ignore[arg-type]
    async with asyncio.timeout(120):
        await log.save(new_job())
        await log.save(new_job())
    assert [r.getMessage() for r in caplog.records if r.exc_info] == ["after a commit"] * 2
