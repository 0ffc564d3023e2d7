"""The views of a past position: equal to a fold from zero, whatever the history, with snapshots and without."""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
import threading
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.views import past, table
from dms.adapters.views.sqlite import SQLiteViews
from dms.errors import Busy, InvalidInput
from projections.all import all_projections
from projections.base import Projection, Views, fold
from projections.capacity import Capacity
from projections.jobs import Jobs
from tests.fixtures.worlds import history, recorded_history

ALL: tuple[Projection[Any], ...] = tuple(all_projections())
HISTORIES, POSITIONS = 10, 50  # 500 positions
State = dict[str, dict[str, Any]]


def world(folder: Path, seed: int, steps: int) -> AbstractAsyncContextManager[tuple[SQLiteEventLog, SQLiteViews]]:
    return recorded_history(folder, seed, steps, itertools.count(1_000_000, 10), ALL)


async def whole(views: Views, projection: Projection[Any], **asked: Any) -> list[Any]:
    """All rows, over pages of 7."""
    rows: list[Any] = []
    after = ""
    while True:
        page = await views.page(projection, limit=7, after=after, **asked)
        rows += page.rows
        if not page.next:
            return rows
        after = page.next


async def folded(log: SQLiteEventLog) -> list[State]:
    """The rows after each position, from zero."""
    rows: State = {projection.name: {} for projection in ALL}
    states: list[State] = [{projection.name: {} for projection in ALL}]
    for event in await log.read(0, 1_000_000):
        for projection in ALL:
            fold(projection, rows[projection.name], [event])
        states.append({name: dict(view) for name, view in rows.items()})
    return states


async def compare(seed: int, every: int) -> None:
    chosen = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "SNAPSHOT_EVENTS", every)
        patch.setattr(table, "SNAPSHOTS_KEPT", 5)
        async with world(Path(folder), seed, 300) as (log, views):
            states = await folded(log)
            for _ in range(POSITIONS):
                position = chosen.randint(0, log.head)
                then = views.at(position)
                for projection in ALL:
                    expected = states[position][projection.name]
                    assert await whole(then, projection) == [expected[key] for key in sorted(expected)]
                    for key in chosen.sample(sorted(expected), min(3, len(expected))):
                        assert await then.get(projection, key) == expected[key]


@pytest.mark.slow
@settings(max_examples=HISTORIES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.sampled_from([7, 50, 10_000]))
def test_the_past_is_the_fold_from_zero(seed: int, every: int) -> None:
    asyncio.run(compare(seed, every))


async def test_filters_and_order_are_those_of_the_present(tmp_path: Path) -> None:
    async with world(tmp_path, 5, 400) as (log, views):
        now = views.at(log.head)
        for asked in (
            {"where": {"status": ("completed", "failed")}},
            {"where": {"role": "compute provider"}, "newest_first": True},
            {"newest_first": True},
        ):
            live = await whole(views, Jobs(), **asked)
            assert live
            assert await whole(now, Jobs(), **asked) == live
        assert await whole(now, Capacity(), where={"channel": "nunet-test"}) == await whole(
            views, Capacity(), where={"channel": "nunet-test"}
        )
        with pytest.raises(InvalidInput):
            await now.page(Jobs(), limit=1, where={"colour": "red"})


async def test_a_time_is_the_newest_position_at_it_and_ties_go_by_position(tmp_path: Path) -> None:
    times = iter([10, 20, 20, 20, 30])
    log = SQLiteEventLog(tmp_path / "events.db", lambda: next(times))
    await log.start()
    for aggregate in itertools.islice(history(random.Random(1), 100), 5):
        await log.save(aggregate)
    found = [event.time for event in await log.read(0, 100)]
    for moment in (9, 10, 19, 20, 25, 30, 99):
        expected = max((n for n, time in enumerate(found, 1) if time <= moment), default=0)
        assert await log.position_at(moment) == expected
    await log.close()


async def test_snapshots_stay_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "SNAPSHOT_EVENTS", 3)
    monkeypatch.setattr(table, "SNAPSHOTS_KEPT", 5)
    async with world(tmp_path, 9, 300) as (_, views):
        for _ in range(2):
            counts = views._file.use(lambda c: c.execute("SELECT count(*) FROM snapshot GROUP BY name").fetchall())
            assert counts
            assert all(0 < count <= 5 for (count,) in counts)
            await views.rebuild("capacity")


def recording(views: SQLiteViews, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Of each fold of a whole view: how many there are then, and whether it keeps the event loop."""
    seen, running = list[tuple[int, bool]](), 0
    loop_thread, folded_as_ever, made_as_ever = threading.get_ident(), fold, past.PastViews._fold_whole

    def fold_and_note(*given: Any) -> None:
        seen.append((running, threading.get_ident() == loop_thread))
        folded_as_ever(*given)

    async def count(self: past.PastViews, projection: Projection[Any]) -> past.Whole:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(0)
            return await made_as_ever(self, projection)
        finally:
            running -= 1

    monkeypatch.setattr("dms.adapters.views.past.fold", fold_and_note)
    monkeypatch.setattr(past.PastViews, "_fold_whole", count)
    return seen


async def test_who_asks_for_the_same_moment_at_once_shares_its_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, 6, 100) as (log, views):
        seen = recording(views, monkeypatch)
        rows = await asyncio.gather(*(whole(views.at(log.head), Capacity()) for _ in range(50)))
        assert rows == [await whole(views, Capacity())] * 50
        assert seen == [(1, False)], "and it keeps nothing else waiting"


async def test_few_moments_are_made_at_once_and_few_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, 6, 200) as (log, views):
        seen = recording(views, monkeypatch)
        asked = (views.at(1 + at % log.head).get(Capacity(), "self") for at in range(past.MOST_WAITING + 10))
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(one) for one in found if isinstance(one, Exception)] == [Busy] * 10
        assert max(seen) == (past.FOLDS_AT_ONCE, False)
        await views.at(log.head).get(Capacity(), "self")  # it is over with that


async def test_one_that_stops_waiting_keeps_nobody_else_from_it(tmp_path: Path) -> None:
    async with world(tmp_path, 6, 100) as (log, views):
        first = asyncio.create_task(whole(views.at(log.head), Capacity()))
        second = asyncio.create_task(whole(views.at(log.head), Capacity()))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == await whole(views, Capacity())


async def test_jobs_that_changed_since_are_folded_for_all_who_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, 7, 300) as (log, views):
        folds, row_as_ever = list[str](), past.PastViews._row

        async def note(self: past.PastViews, projection: Any, key: str, streams: Any) -> Any:
            folds.append(key)
            return await row_as_ever(self, projection, key, streams)

        monkeypatch.setattr(past.PastViews, "_row", note)
        rows = await asyncio.gather(*(views.at(log.head // 2).page(Jobs(), limit=1000) for _ in range(20)))
        assert all(page == rows[0] for page in rows)
        assert folds
        assert len(folds) == len(set(folds)), "each but once"
