"""The persisted views: whatever cuts the folding short, in the end they hold what a fold of the whole log gives."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.views import sqlite
from dms.adapters.views.database import Damaged
from dms.adapters.views.sqlite import SQLiteViews
from dms.domain.event import AnyFact, Event, Recorded
from dms.domain.job import Job
from dms.errors import ArchiveUnreadable, Conflict, LogCorrupt, NotFound
from projections.base import Projection
from projections.capacity import Capacity
from projections.jobs import JobRow, Jobs
from tests.fixtures.archiving import archived, written
from tests.fixtures.histories import new_job, paid
from tests.fixtures.network import environment

ALL: Sequence[Projection[Any]] = (Jobs(), Capacity())


@contextlib.asynccontextmanager
async def started(log: SQLiteEventLog, path: Path, projections: Sequence[Projection[Any]] = ALL) -> Any:
    views = SQLiteViews(path, log, projections)
    try:
        await views.start()
        yield views
    finally:
        await views.close()


async def write(log: SQLiteEventLog, jobs: int, prefix: str = "0x") -> None:
    """Four events a job."""
    made = [new_job() for _ in range(jobs)]
    for number, job in enumerate(made):
        job.report_fund_status(paid(f"{prefix}{number}"))
        job.accept_funding("trust")
    await asyncio.gather(*(log.save(job) for job in made))


async def expected(log: SQLiteEventLog, projection: Projection[Any]) -> dict[str, Any]:
    """A fold of the whole log, in memory."""
    rows: dict[str, Any] = {}
    position = 0
    while events := await log.read(position, 1000):
        for recorded in events:
            key = projection.key(recorded)
            if key is not None:
                rows[key] = projection.apply(rows.get(key), recorded)
        position = events[-1].position
    return {key: row for key, row in rows.items() if row is not None}


async def held(views: SQLiteViews, projection: Projection[Any]) -> dict[str, Any]:
    page = await views.page(projection, limit=100_000)
    return {row.job_id if isinstance(row, JobRow) else row.provider: row for row in page.rows}


async def check(views: SQLiteViews, log: SQLiteEventLog) -> None:
    """Every view has come to the head and holds the right rows."""
    async with asyncio.timeout(120):
        await views.wait(log.head)
    assert set(views.positions().values()) == {log.head}
    for projection in ALL:
        assert await held(views, projection) == await expected(log, projection)


# --- crashes ---------------------------------------------------------------------------------------

FOLDER = """
import asyncio, sys
from pathlib import Path
from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.views import sqlite
from projections.capacity import Capacity
from projections.jobs import Jobs

async def main(folder: Path) -> None:
    sqlite.REBUILD_BATCH = 7
    log = SQLiteEventLog(folder / "events.db")
    await log.start()
    views = sqlite.SQLiteViews(folder / "views.db", log, [Jobs(), Capacity()])
    catching_up = asyncio.create_task(views.start())
    while not catching_up.done():
        print(sum(views.positions().values()), flush=True)
        await asyncio.sleep(0)
    print("done", flush=True)

asyncio.run(main(Path(sys.argv[1])))
"""


def fold_and_die(folder: Path, at: int) -> None:
    """Another process folds until the positions of its views sum up to `at`, and is killed then."""
    with subprocess.Popen(
        [sys.executable, "-c", FOLDER, str(folder)], env=environment(), stdout=subprocess.PIPE, text=True
    ) as folding:
        assert folding.stdout is not None
        for line in folding.stdout:
            if line == "done\n" or int(line) > at:
                break
        folding.kill()


@pytest.mark.slow
async def test_killed_between_and_within_batches_it_goes_on_where_it_was(tmp_path: Path) -> None:
    log = SQLiteEventLog(tmp_path / "events.db")
    await log.start()
    await write(log, 500)
    head = log.head
    await log.close()
    reached = [0]
    while reached[-1] < 2 * head and len(reached) < 8:  # two views
        await asyncio.to_thread(fold_and_die, tmp_path, reached[-1] + 450)
        with contextlib.closing(sqlite3.connect(tmp_path / "views.db")) as database:
            reached.append(database.execute("SELECT coalesce(sum(position), 0) FROM view").fetchone()[0])
        assert reached[-1] > reached[-2], "what was folded before the kill was lost"
    assert len(reached) > 3, "it was never killed on the way"
    log = SQLiteEventLog(tmp_path / "events.db")
    await log.start()
    async with started(log, tmp_path / "views.db") as views:
        await check(views, log)
    await log.close()


async def test_a_batch_is_folded_into_all_views_or_into_none(log: SQLiteEventLog, tmp_path: Path) -> None:
    async with started(log, tmp_path / "views.db") as views:
        await write(log, 10)
        await views.wait(log.head)  # the live task has nothing more to do
        behind = [views._views["capacity"], views._views["jobs"]]
        for view in behind:
            views._reset(view)
        views._file.use(lambda connection: connection.execute("DROP TABLE view_jobs"))
        with pytest.raises(Damaged, match="no such table"):
            views._fold(behind, await log.read(0, 100))
        assert [view.position for view in behind] == [0, 0]
        views._reset(behind[1])
        views._fold(behind, await log.read(0, 100))
        await check(views, log)


async def test_a_rebuild_that_was_broken_off_is_made_up_for_with_the_next_event(
    log: SQLiteEventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(log, 50)
    async with started(log, tmp_path / "views.db") as views:
        monkeypatch.setattr(sqlite, "REBUILD_BATCH", 1)
        rebuilding = asyncio.create_task(views.rebuild("jobs"))
        await half_way(views, log)
        rebuilding.cancel()
        await asyncio.wait({rebuilding})
        assert rebuilding.cancelled()
        await write(log, 1, "0xff")
        await check(views, log)


async def half_way(views: SQLiteViews, log: SQLiteEventLog) -> None:
    """Waits for a moment within a rebuild, at each turn of the loop: it does not last long."""
    async with asyncio.timeout(120):
        while not 0 < views.positions()["jobs"] < log.head:
            await asyncio.sleep(0)


class Asked(Jobs):
    """Notes of which events it was asked."""

    name = "asked"
    event_types: ClassVar[frozenset[type[Event]]] = frozenset((Job.ServiceRequested, Job.Submitted))
    topics: ClassVar[list[str]] = []

    def key(self, recorded: AnyFact) -> str | None:
        self.topics.append(recorded.topic)
        return super().key(recorded)

    def apply(self, row: JobRow | None, recorded: AnyFact) -> JobRow | None:
        self.topics.append(recorded.topic)
        return super().apply(row, recorded)


async def test_live_in_a_rebuild_and_in_the_past_a_view_is_shown_only_the_events_that_it_uses(
    log: SQLiteEventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Asked, "topics", [])
    wanted = {event_type.TOPIC for event_type in Asked.event_types}
    async with started(log, tmp_path / "views.db", [Asked(), *ALL]) as views:
        await write(log, 3)
        await check(views, log)
        assert set(Asked.topics) == wanted < {recorded.topic for recorded in await log.read(0, 1000)}
        Asked.topics.clear()
        await views.rebuild("asked")
        assert set(Asked.topics) == wanted
        Asked.topics.clear()
        rows = [await views.at(log.head).get(Asked(), key) for key in sorted(await held(views, Asked()))]
        assert set(Asked.topics) == wanted
        assert rows == (await views.page(Asked(), limit=10)).rows


# --- rebuilding ------------------------------------------------------------------------------------


async def test_a_rebuild_while_events_arrive_loses_and_doubles_none(
    log: SQLiteEventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "REBUILD_BATCH", 13)
    await write(log, 50)
    async with started(log, tmp_path / "views.db") as views:
        for turn in range(5):
            writing = asyncio.gather(*(write(log, 5, f"{turn}-{part}-") for part in range(6)))
            reading = asyncio.gather(*(views.page(Jobs(), limit=50) for _ in range(10)))
            reached = await asyncio.gather(views.rebuild("jobs"), views.rebuild("capacity"))
            assert min(reached) >= 200
            await asyncio.gather(writing, reading)
        await check(views, log)


async def test_who_waits_during_a_rebuild_is_woken_by_its_end(
    log: SQLiteEventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not only by the next event, which may never come."""
    monkeypatch.setattr(sqlite, "REBUILD_BATCH", 1)
    await write(log, 50)
    async with started(log, tmp_path / "views.db") as views:
        rebuilding = asyncio.create_task(views.rebuild("jobs"))
        await half_way(views, log)
        async with asyncio.timeout(120):
            await views.wait(log.head)
        await rebuilding


async def test_events_read_before_a_view_was_emptied_are_not_folded_into_it(
    log: SQLiteEventLog, tmp_path: Path
) -> None:
    """The live task has a batch in hand while a rebuild empties the table: whoever gets the lock first."""
    await write(log, 10)
    events: Sequence[Recorded] = await log.read(20, 100)
    async with started(log, tmp_path / "views.db") as views:
        view = views._views["jobs"]
        views._reset(view)
        views._fold([view], events)
        assert view.position == 0
        assert await held(views, Jobs()) == {}
        await views._catch_up(view)
        await check(views, log)


async def test_a_view_is_rebuilt_once_at_a_time(log: SQLiteEventLog, tmp_path: Path) -> None:
    await write(log, 50)
    async with started(log, tmp_path / "views.db") as views:
        first = asyncio.create_task(views.rebuild("jobs"))
        await asyncio.sleep(0)
        with pytest.raises(Conflict):
            await views.rebuild("jobs")
        await first
        with pytest.raises(NotFound):
            await views.rebuild("nothing")


class NewerJobs(Jobs):
    """The same view after its fold was changed."""

    version: ClassVar[int] = Jobs.version + 1
    columns: ClassVar[Mapping[str, str]] = {"status": "TEXT"}
    indexed: ClassVar[Sequence[str]] = ("status",)

    def column_values(self, row: JobRow) -> tuple[Any, ...]:
        return (row.status.upper(),)


async def test_a_raised_version_makes_the_view_anew_with_its_new_columns(log: SQLiteEventLog, tmp_path: Path) -> None:
    await write(log, 10)
    async with started(log, tmp_path / "views.db") as views:
        assert len((await views.page(Jobs(), limit=100, where={"status": "submitted"})).rows) == 10
    async with started(log, tmp_path / "views.db", [NewerJobs(), Capacity()]) as views:
        assert len((await views.page(NewerJobs(), limit=100, where={"status": "SUBMITTED"})).rows) == 10
    async with started(log, tmp_path / "views.db") as views:  # and an older program its own again
        assert len((await views.page(Jobs(), limit=100, where={"status": "submitted"})).rows) == 10


async def test_a_start_with_nothing_new_folds_nothing(log: SQLiteEventLog, tmp_path: Path) -> None:
    await write(log, 10)
    async with started(log, tmp_path / "views.db"):
        pass

    class NeverFolded(Jobs):
        def apply(self, row: JobRow | None, recorded: AnyFact) -> JobRow | None:
            raise AssertionError("was folded already")

    async with started(log, tmp_path / "views.db", [NeverFolded()]) as views:
        assert views.positions() == {"jobs": log.head}


# --- views of another log ----------------------------------------------------------------------------


async def test_views_of_a_longer_log_are_refused(log: SQLiteEventLog, tmp_path: Path) -> None:
    """The log was replaced by an older copy: the events that the views have seen are gone."""
    await write(log, 10)
    async with started(log, tmp_path / "views.db"):
        pass
    other = SQLiteEventLog(tmp_path / "older.db")
    await other.start()
    await write(other, 5)
    with pytest.raises(LogCorrupt, match="has seen position 40, the log ends at 20"):
        async with started(other, tmp_path / "views.db"):
            pass
    await other.close()


async def test_views_of_another_history_are_made_anew(log: SQLiteEventLog, tmp_path: Path) -> None:
    await write(log, 10)
    async with started(log, tmp_path / "views.db"):
        pass
    other = SQLiteEventLog(tmp_path / "other.db")
    await other.start()
    await write(other, 20)
    async with started(other, tmp_path / "views.db") as views:
        await check(views, other)
        for key in await expected(log, Jobs()):
            assert await views.get(Jobs(), key) is None
    await other.close()


# --- pages -----------------------------------------------------------------------------------------


async def test_pages_join_without_gap_in_both_directions(log: SQLiteEventLog, tmp_path: Path) -> None:
    await write(log, 23)
    keys = sorted(await expected(log, Jobs()))
    async with started(log, tmp_path / "views.db") as views:
        for newest_first in (False, True):
            found: list[str] = []
            after = ""
            while True:
                page = await views.page(Jobs(), limit=5, after=after, newest_first=newest_first)
                found += [row.job_id for row in page.rows]
                if not page.next:
                    break
                after = page.next
            assert found == sorted(keys, reverse=newest_first)
        assert Job.KIND not in keys


async def test_views_that_are_behind_by_different_amounts_are_made_from_one_reading(
    log: SQLiteEventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(log, 30)
    async with started(log, tmp_path / "views.db", ALL[:1]):
        pass  # the other view begins at nothing
    await write(log, 30, "0xB")
    pages: list[int] = []
    read = log.read

    async def counted(after: int, limit: int) -> Sequence[Recorded]:
        pages.append(after)
        return await read(after, limit)

    monkeypatch.setattr(log, "read", counted)
    monkeypatch.setattr(sqlite, "REBUILD_BATCH", 50)
    async with started(log, tmp_path / "views.db") as views:
        assert pages == list(range(0, log.head, 50))
        monkeypatch.undo()
        await check(views, log)


async def test_a_view_is_not_emptied_when_its_history_can_not_be_read(tmp_path: Path) -> None:
    database = await written(tmp_path / "data", 150)
    await archived(database)
    log = SQLiteEventLog(database)
    await log.start()
    async with started(log, tmp_path / "views.db") as views:
        before = await held(views, Jobs())
        segment = next((database.parent / "archive").iterdir())
        segment.rename(tmp_path / "away")
        for made_anew in (views.rebuild("jobs"), views.renew()):
            with pytest.raises(ArchiveUnreadable, match=segment.name):
                await made_anew
            assert await held(views, Jobs()) == before
        await write(log, 3)
        async with asyncio.timeout(120):
            await views.wait(log.head)
        (tmp_path / "away").rename(segment)
        await views.rebuild("jobs")
        assert await held(views, Jobs()) == await expected(log, Jobs())
    await log.close()
