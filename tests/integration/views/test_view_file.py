"""The views' file breaks, is lost, or is another's: the daemon goes on, and in the end the views are right again."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.views import database
from dms.adapters.views.queries import Asked
from dms.adapters.views.sqlite import SQLiteViews
from dms.adapters.views.table import ViewTable
from dms.domain.deployment import Fault
from dms.domain.event import AnyFact
from dms.domain.job import Job
from dms.errors import LogCorrupt, LogUnavailable
from projections.jobs import JobRow, Jobs
from tests.fixtures.archiving import archived, written
from tests.fixtures.waiting import wait_for
from tests.integration.views.test_views import ALL, check, expected, held, started, write


def run_sql(path: Path, script: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


def noise(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(50_000))


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def a_torn_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(random.Random(2).randbytes(4096))


def text(path: Path) -> None:
    path.write_text("notes of mine\n" * 100)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "notes").write_text("mine")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def another_programs(path: Path) -> None:
    path.unlink()
    run_sql(path, "CREATE TABLE customers (name TEXT); INSERT INTO customers VALUES ('one');")


def another_programs_of_our_names(path: Path) -> None:
    path.unlink()
    run_sql(path, "CREATE TABLE view (id INTEGER, html TEXT); INSERT INTO view VALUES (1, '<p>');")


def other_columns(path: Path) -> None:
    run_sql(path, "DROP TABLE view_jobs; CREATE TABLE view_jobs (key TEXT PRIMARY KEY, body BLOB, more TEXT)")


def a_table_is_gone(path: Path) -> None:
    run_sql(path, "DROP TABLE view_jobs")


def rows_of_garbage(path: Path) -> None:
    run_sql(path, "UPDATE view_jobs SET body = x'00'")


DAMAGES = [
    noise, zeros, half, a_torn_page, text, a_folder, a_pipe, another_programs, another_programs_of_our_names,
    other_columns, a_table_is_gone, rows_of_garbage,
]  # fmt: skip


def aside(path: Path) -> list[Path]:
    return sorted(p for p in path.parent.glob(f"{path.name}.damaged-*") if not p.name.endswith(database.BESIDE))


async def settled(views: SQLiteViews, log: SQLiteEventLog) -> None:
    """Until what was found is made up for."""

    async def looked() -> bool:
        try:
            await views.page(Jobs(), limit=100_000)
            await views.wait(log.head)
        except LogUnavailable:
            return False
        return views.failure is None

    async with asyncio.timeout(120):
        while not await looked():
            await asyncio.sleep(0.01)
    assert await held(views, Jobs()) == await expected(log, Jobs())


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_file_that_holds_no_views_is_set_aside_and_made_anew(
    log: SQLiteEventLog, tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "views.db"
    await write(log, 100)
    async with started(log, path):
        pass
    damage(path)
    found = path.read_bytes() if path.is_file() else None
    await write(log, 3, "0xB")
    async with started(log, path) as views:
        await settled(views, log)
    [kept] = aside(path)
    assert str(kept) in caplog.text
    assert str(path) in caplog.text
    if found is not None and not found.startswith(b"SQLite format 3"):
        assert kept.read_bytes() == found
    if damage is a_folder:
        assert (kept / "notes").read_text() == "mine"
    assert path.stat().st_mode & 0o777 == 0o600


async def test_only_a_few_are_kept_aside_and_none_when_a_person_is_erased(log: SQLiteEventLog, tmp_path: Path) -> None:
    path = tmp_path / "views.db"
    await write(log, 3)
    for _ in range(database.KEPT_ASIDE + 2):
        noise(path)
        async with started(log, path) as views:
            await check(views, log)
    assert len(aside(path)) == database.KEPT_ASIDE
    async with started(log, path) as views:
        await views.renew()
        await check(views, log)
    assert aside(path) == []


# --- while it runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "met_by"),
    [
        ("DROP TABLE view_jobs", "a reader"),
        ("UPDATE view_jobs SET body = x'00'", "a reader"),
        ("DROP TABLE view_jobs", "the next event"),
        ("UPDATE view_jobs SET body = x'00'", "the next event"),
        ("DROP TABLE view", "the next event"),
    ],
)
async def test_damage_that_is_met_while_it_runs_is_mended(
    log: SQLiteEventLog, tmp_path: Path, damage: str, met_by: str
) -> None:
    path = tmp_path / "views.db"
    async with started(log, path) as views:
        await write(log, 20)
        await check(views, log)
        job_id = next(iter(await held(views, Jobs())))
        run_sql(path, damage)
        if met_by == "a reader":
            with pytest.raises(LogUnavailable, match=str(path)):
                await views.get(Jobs(), job_id)
        else:
            job = log.load(Job, job_id)
            assert job is not None
            job.fail("tried", Fault.NONE)
            await log.save(job)
        await wait_for(lambda: aside(path))
        await settled(views, log)


async def test_a_file_that_is_cut_while_it_runs_is_mended(log: SQLiteEventLog, tmp_path: Path) -> None:
    path = tmp_path / "views.db"
    await write(log, 400)
    async with started(log, path) as views:
        views._file.use(lambda c: c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        views._file.use(lambda c: c.execute("PRAGMA cache_size = 1"))
        half(path)
        with pytest.raises(LogUnavailable):
            await views.page(Jobs(), limit=100_000)
        await settled(views, log)


async def test_a_file_that_is_removed_or_replaced_while_it_runs_is_made_anew(
    log: SQLiteEventLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "views.db"
    async with started(log, path) as views:
        await write(log, 20)
        await check(views, log)
        shutil.copy(path, tmp_path / "copy")
        path.unlink()
        await write(log, 1, "0xB")
        await settled(views, log)
        assert path.is_file()
        assert f"{path} was removed or replaced" in caplog.text
        noise(tmp_path / "noise")
        (tmp_path / "noise").replace(path)
        await write(log, 1, "0xC")
        await settled(views, log)


async def test_views_of_a_longer_log_that_are_put_in_place_while_it_runs_are_set_aside(
    log: SQLiteEventLog, tmp_path: Path
) -> None:
    path = tmp_path / "views.db"
    other = SQLiteEventLog(tmp_path / "other.db")
    await other.start()
    await write(other, 30)
    async with started(other, tmp_path / "others-views.db"):
        pass
    await other.close()
    async with started(log, path) as views:
        await write(log, 2)
        (tmp_path / "others-views.db").replace(path)
        await write(log, 2, "0xB")
        await settled(views, log)
        assert len(aside(path)) == 1


async def test_nothing_is_shown_of_a_file_before_it_is_known_to_be_ours(
    log: SQLiteEventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "views.db"
    looked: list[str] = []
    reset = SQLiteViews._reset

    def looked_at_meanwhile(views: SQLiteViews, view: ViewTable) -> None:
        with pytest.raises(LogUnavailable, match="the views are not kept"):
            views._file.look_up(lambda connection: view.page(connection, Asked(10)))
        looked.append(view.projection.name)
        reset(views, view)

    async with started(log, path) as views:
        await write(log, 2)
        monkeypatch.setattr(SQLiteViews, "_reset", looked_at_meanwhile)
        path.unlink()
        await write(log, 2, "0xB")
        await settled(views, log)
    assert looked


# --- what passes -----------------------------------------------------------------------------------


def full_disk(views: SQLiteViews) -> Callable[[], None]:
    """SQLITE_FULL, as a full disk gives it."""
    [(pages,)] = views._file.use(lambda c: c.execute("PRAGMA page_count").fetchall())
    views._file.use(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchall())

    def over() -> None:
        views._file.use(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchall())

    return over


def read_only(views: SQLiteViews) -> Callable[[], None]:
    views._file.use(lambda c: c.execute("PRAGMA query_only = ON"))

    def over() -> None:
        views._file.use(lambda c: c.execute("PRAGMA query_only = OFF"))

    return over


def held_by_another(views: SQLiteViews) -> Callable[[], None]:
    views._file.use(lambda c: c.execute("PRAGMA busy_timeout = 0").fetchall())
    other = sqlite3.connect(views._file.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other.close


@pytest.mark.parametrize("trouble", [full_disk, read_only, held_by_another])
async def test_what_passes_is_told_and_waited_for(
    log: SQLiteEventLog, tmp_path: Path, trouble: Callable[[SQLiteViews], Callable[[], None]]
) -> None:
    path = tmp_path / "views.db"
    await write(log, 10)
    async with started(log, path) as views:
        assert views.failure is None
        before = await held(views, Jobs())
        over = trouble(views)
        await write(log, 200, "0xB")
        await wait_for(lambda: views.failure is not None)
        assert str(path) in str(views.failure)
        with pytest.raises(LogUnavailable, match="the views are not kept: views: "):
            async with asyncio.timeout(120):
                await views.wait(log.head)
        assert await held(views, Jobs()) == before  # what was folded is read on
        over()
        await settled(views, log)
        assert aside(path) == []


async def test_a_start_waits_for_a_place_that_can_not_be_used_yet(log: SQLiteEventLog, tmp_path: Path) -> None:
    path = tmp_path / "views.db"
    path.symlink_to(tmp_path / "not mounted" / "views.db")
    await write(log, 5)
    views = SQLiteViews(path, log, ALL)
    starting = asyncio.create_task(views.start())
    await wait_for(lambda: views.failure is not None)
    assert str(path) in str(views.failure)
    (tmp_path / "not mounted").mkdir()
    async with asyncio.timeout(120):
        await starting
    await check(views, log)
    await views.close()


async def test_a_log_that_can_not_be_read_empties_no_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor are they set aside for it, again and again: it is the log that is at fault."""
    path = tmp_path / "views.db"
    source = await written(tmp_path / "data", 150)
    await archived(source)
    log = SQLiteEventLog(source)
    await log.start()
    async with started(log, path) as views:
        before = await held(views, Jobs())
        segment = next((source.parent / "archive").iterdir())
        segment.rename(tmp_path / "away")
        (tmp_path / "copy").write_bytes(path.read_bytes())
        (tmp_path / "copy").replace(path)  # so that they have to be made anew
        await write(log, 1)
        await wait_for(lambda: segment.name in str(views.failure))
        assert await held(views, Jobs()) == before
        (tmp_path / "away").rename(segment)
        await settled(views, log)

        def unreadable(*_args: Any, **_more: Any) -> Any:
            raise sqlite3.DatabaseError("database disk image is malformed")

        with monkeypatch.context() as broken:
            broken.setattr(log, "subscribe", unreadable)
            run_sql(path, "DROP TABLE view_jobs")
            with pytest.raises(LogUnavailable):
                await views.page(Jobs(), limit=1)
            await wait_for(lambda: "malformed" in str(views.failure))
            assert len(aside(path)) == 1
        await settled(views, log)
        assert len(aside(path)) == 1
    await log.close()


def deleted(path: Path) -> None:
    path.unlink()


def of_an_older_version(path: Path) -> None:
    run_sql(path, "UPDATE view SET version = version - 1 WHERE name = 'jobs'")


def of_another_history(path: Path) -> None:
    run_sql(path, "UPDATE view SET hash = x'00' WHERE name = 'jobs'")


@pytest.mark.parametrize("change", [noise, deleted, of_an_older_version, of_another_history])
async def test_views_that_must_be_made_anew_wait_for_an_archive_that_is_away(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Nothing of the old file goes before, and nobody has to start the DMS again."""
    path = tmp_path / "views.db"
    source = await written(tmp_path / "data", 150)
    await archived(source)
    log = SQLiteEventLog(source)
    await log.start()
    async with started(log, path):
        pass
    segment = next((source.parent / "archive").iterdir())
    segment.rename(tmp_path / "away")
    change(path)
    views = SQLiteViews(path, log, ALL)
    starting = asyncio.create_task(views.start())
    await wait_for(lambda: segment.name in str(views.failure))
    assert aside(path) == []
    kept = rows_of_jobs(path) if change in (of_an_older_version, of_another_history) else None
    (tmp_path / "away").rename(segment)
    async with asyncio.timeout(120):
        await starting
    assert await held(views, Jobs()) == await expected(log, Jobs())
    assert kept in (None, rows_of_jobs(path))
    await views.close()
    await log.close()


def rows_of_jobs(path: Path) -> int:
    connection = sqlite3.connect(path)
    (count,) = connection.execute("SELECT count(*) FROM view_jobs").fetchone()
    connection.close()
    return int(count)


async def test_views_that_have_seen_more_than_the_log_still_refuse_to_start(
    log: SQLiteEventLog, tmp_path: Path
) -> None:
    await write(log, 5)
    async with started(log, tmp_path / "views.db"):
        pass
    run_sql(tmp_path / "views.db", "UPDATE view SET position = 100")
    with pytest.raises(LogCorrupt, match="has seen position 100, the log ends at 20"):
        async with started(log, tmp_path / "views.db"):
            pass


# --- an event that a view can't take in ------------------------------------------------------------


class Picky(Jobs):
    """Fails in one way or another at each payment."""

    name = "picky"
    way = ""

    def key(self, recorded: AnyFact) -> str | None:
        if self.way == "key" and recorded.topic == Job.FundStatusReported.TOPIC:
            raise KeyError("no key")
        return super().key(recorded)

    def apply(self, row: JobRow | None, recorded: AnyFact) -> JobRow | None:
        if recorded.topic == Job.FundStatusReported.TOPIC:
            if self.way == "apply":
                raise ZeroDivisionError
            if self.way == "row":
                return super().apply(row, recorded) and object()  # type: ignore[return-value]
        return super().apply(row, recorded)

    def column_values(self, row: JobRow) -> tuple[Any, ...]:
        values = super().column_values(row)
        if row.status == "submitted":
            if self.way == "a number out of range":
                return (2**70, *values[1:])
            if self.way == "half a character":
                return ("\ud800", *values[1:])
            if self.way == "no type of SQLite's":
                return ([], *values[1:])
        return values


@pytest.mark.parametrize(
    "way", ["key", "apply", "row", "a number out of range", "half a character", "no type of SQLite's"]
)
async def test_an_event_that_one_view_can_not_take_in_ends_no_view(
    log: SQLiteEventLog, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "views.db"
    monkeypatch.setattr(Picky, "way", way)
    await write(log, 5)
    async with started(log, path, [Picky(), *ALL]) as views:
        await write(log, 20, "0xB")
        await check(views, log)
        [(name, left)] = views.left_out().items()
        assert (name, left.events) == ("picky", 25)
        assert left.topic in ("job.fund_status_reported", "job.submitted")
        assert views.failure is None
        rows = (await views.page(Picky(), limit=100)).rows
        assert len(rows) == 25
        assert {row.status for row in rows} == {"submitted" if left.topic != "job.submitted" else "funding"}
        assert len([r for r in caplog.records if r.__dict__.get("action") == "view_left_out"]) == 2  # the 1st, the 10th
    async with started(log, path, [Picky(), *ALL]) as views:
        assert views.left_out() == {"picky": left}
        monkeypatch.setattr(Picky, "way", "")
        await views.rebuild("picky")
        assert views.left_out() == {}


async def test_the_past_leaves_out_the_same_events(
    log: SQLiteEventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Picky, "way", "apply")
    await write(log, 5)
    async with started(log, tmp_path / "views.db", [Picky()]) as views:
        now = (await views.page(Picky(), limit=100)).rows
        then = (await views.at(log.head).page(Picky(), limit=100)).rows
        assert then == now
