"""Searches in the views hold nothing up: the loop looks rows up beside them, and the views follow the log."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.errors import LogUnavailable
from projections.base import Contains
from projections.jobs import Jobs
from tests.fixtures.histories import new_job
from tests.fixtures.standing import standing_still
from tests.fixtures.waiting import wait_for
from tests.integration.views.test_views import started

ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


async def test_the_loop_looks_a_row_up_and_the_views_follow_while_somebody_searches(
    log: SQLiteEventLog, tmp_path: Path
) -> None:
    early, late = new_job(), new_job()
    await log.save(early)
    async with started(log, tmp_path / "views.db") as views:
        with standing_still(views._file._searching.connection) as stands:
            search = asyncio.create_task(views.page(Jobs(), limit=9, where={"searched": Contains("")}, counted=True))
            await wait_for(stands.is_set)
            row = await views.get(Jobs(), early.key)
            assert row is not None
            await log.save(late)
            await views.wait(log.head)
            assert await views.get(Jobs(), late.key) is not None
            assert not search.done()
        page = await search
        assert len(page.rows) == page.total  # of one moment


async def test_a_stop_does_not_wait_for_a_search(log: SQLiteEventLog, tmp_path: Path) -> None:
    begun = threading.Event()

    def search_for_ever(connection: sqlite3.Connection) -> None:
        begun.set()
        connection.execute(ENDLESS).fetchall()

    async with started(log, tmp_path / "views.db") as views:
        search = asyncio.create_task(views.read(search_for_ever))
        await wait_for(begun.is_set)
    with pytest.raises(LogUnavailable, match="just now"):
        await search


async def test_what_is_waited_for_can_be_read_at_once(log: SQLiteEventLog, tmp_path: Path) -> None:
    """The position is told once its rows are committed, not before."""
    async with started(log, tmp_path / "views.db") as views:
        for _ in range(50):
            job = new_job()
            await log.save(job)
            await views.wait(log.head)
            assert await views.get(Jobs(), job.key) is not None
