"""Histories that prove themselves: exports, imports, and every kind of tampering found and located."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.p2p.identity import Identity
from dms.adapters.views.sqlite import SQLiteViews
from dms.application.payments.payments import Paying
from dms.application.records.export import export_job, export_log
from dms.domain.chain import GENESIS, SignedRecord, id_bytes, link
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.export import Header, Writer
from dms.domain.job import Job
from dms.errors import InvalidInput, LogCorrupt, LogUnavailable, NotFound
from dms.offline import Audit, export_checker, import_export
from projections.all import all_projections
from tests.fixtures.histories import Author, submitted_job
from tests.fixtures.worlds import history
from tests.integration.http.node import running_node

IDENTITY, OTHER = Identity.generate(), Identity.generate()


@asynccontextmanager
async def stored(folder: Path, steps: int = 150, seed: int = 3) -> AsyncIterator[SQLiteEventLog]:
    """A log with views beside it."""
    log = SQLiteEventLog(folder / "events.db")
    await log.start()
    views = SQLiteViews(folder / "views.db", log, all_projections())
    await views.start()
    for aggregate in history(random.Random(seed), steps):
        await log.save(aggregate)
    await views.wait(log.head)
    try:
        yield log
    finally:
        await views.close()
        await log.close()


def audit(database: Path) -> str:
    """What is wrong; empty for nothing."""
    checks = Audit(database)
    try:
        for step in (checks.chain, checks.signatures, checks.views):
            for _ in step():
                pass
    except LogCorrupt as error:
        return str(error)
    finally:
        checks.close()
    return ""


async def lines_of(log: SQLiteEventLog, job_id: str = "") -> list[bytes]:
    chunks = export_job(log, IDENTITY, job_id) if job_id else export_log(log, IDENTITY)
    return b"".join([chunk async for chunk in chunks]).splitlines(keepends=True)


def fault_of(lines: list[bytes]) -> str:
    checker = export_checker()
    try:
        for _ in checker.records(lines):
            pass
    except LogCorrupt as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a log that is as it was written; tests change copies."""
    folder = tmp_path_factory.mktemp("clean")

    async def make() -> None:
        async with stored(folder):
            pass

    asyncio.run(make())
    return folder


def copied(clean: Path, to: Path) -> Path:
    for name in ("events.db", "views.db"):
        shutil.copy(clean / name, to / name)
    return to / "events.db"


def head_of(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection, connection:
        return int(connection.execute("SELECT max(position) FROM event").fetchone()[0])


# --- the stored log ------------------------------------------------------------------------------------
def test_a_log_as_it_was_written_verifies_with_its_views(clean: Path) -> None:
    checks = Audit(clean / "events.db")
    assert max(checks.chain()) == head_of(clean / "events.db")
    assert set(checks.views()) == {projection.name for projection in all_projections()}
    checks.close()


COLUMNS = ("stream", "version", "topic", "time", "id", "correlation", "causation", "traceparent", "data", "hash")


def flipped(value: object, bit: int) -> object:
    """The same type, one bit other."""
    if isinstance(value, int):
        return value ^ (1 << (bit % 8))
    if isinstance(value, str):
        return value + "x" if not value else chr(ord(value[0]) ^ 1) + value[1:]
    raw = bytearray(value if isinstance(value, bytes) and value else b"\x00" * 16)
    raw[bit // 8 % len(raw)] ^= 1 << (bit % 8)
    return bytes(raw)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.floats(0, 1, exclude_max=True), st.sampled_from(COLUMNS), st.integers(0, 4000))
def test_one_flipped_bit_is_found_where_it_is(clean: Path, place: float, column: str, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = copied(clean, Path(folder))
        position = 1 + int(place * head_of(database))
        with closing(sqlite3.connect(database)) as connection, connection:
            (value,) = connection.execute(f"SELECT {column} FROM event WHERE position = ?", (position,)).fetchone()
            try:
                connection.execute(f"UPDATE event SET {column} = ? WHERE position = ?", (flipped(value, bit), position))
            except sqlite3.IntegrityError:
                return  # the table itself refuses a second event of that version
        assert str(position) in audit(database)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.floats(0, 1, exclude_max=True))
def test_a_swapped_pair_a_missing_row_and_a_type_that_is_none_are_found(clean: Path, place: float) -> None:
    for change in (swap, delete, retype):
        with tempfile.TemporaryDirectory() as folder:
            database = copied(clean, Path(folder))
            position = 1 + int(place * (head_of(database) - 2))
            with closing(sqlite3.connect(database)) as connection, connection:
                change(connection, position)
            assert str(position) in audit(database), change.__name__


def swap(connection: sqlite3.Connection, position: int) -> None:
    for old, new in ((position, -1), (position + 1, position), (-1, position + 1)):
        connection.execute("UPDATE event SET position = ? WHERE position = ?", (new, old))


def delete(connection: sqlite3.Connection, position: int) -> None:
    connection.execute("DELETE FROM event WHERE position = ?", (position,))


def retype(connection: sqlite3.Connection, position: int) -> None:
    connection.execute("UPDATE event SET data = CAST(data AS TEXT) WHERE position = ?", (position,))


@pytest.mark.parametrize("events", [1, 7, 100])
def test_a_cut_tail_is_found_by_what_the_views_have_seen(clean: Path, tmp_path: Path, events: int) -> None:
    database = copied(clean, tmp_path)
    head = head_of(database)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM event WHERE position > ?", (head - events,))
    fault = audit(database)
    assert f"ends at position {head - events}" in fault
    assert f"{events} events at its end are missing" in fault


def test_a_changed_view_is_found(clean: Path, tmp_path: Path) -> None:
    database = copied(clean, tmp_path)
    with closing(sqlite3.connect(tmp_path / "views.db")) as views, views:
        (key, body) = views.execute("SELECT key, body FROM view_jobs LIMIT 1").fetchone()
        row = msgspec.json.decode(body) | {"price": "1"}
        views.execute("UPDATE view_jobs SET body = ? WHERE key = ?", (msgspec.json.encode(row), key))
    assert f"row {key} of the view jobs" in audit(database)


async def test_a_record_that_is_not_the_providers_is_found(tmp_path: Path) -> None:
    author, other = Author(), Author()
    async with stored(tmp_path, steps=0) as log:
        for signer in (author, other):
            job = submitted_job(provider=author.peer_id)
            record = signer.record(job.key, Deployment.ImagePulled(digest=""))
            job.trigger(Job.ProviderReported(record=record))
            await log.save(job)
    assert "position 10" in audit(tmp_path / "events.db")


# --- exports ---------------------------------------------------------------------------------------------
async def test_an_export_verifies_anywhere_and_makes_the_same_log_again(tmp_path: Path) -> None:
    async with stored(tmp_path) as log:
        lines, head = await lines_of(log), log.head
    assert fault_of(lines) == ""
    assert max(import_export(lines, tmp_path / "copy.db")) == head
    tables = []
    for name in ("events.db", "copy.db"):
        with closing(sqlite3.connect(tmp_path / name)) as connection, connection:
            tables.append(connection.execute("SELECT position, hash, data FROM event ORDER BY position").fetchall())
    assert tables[0] == tables[1]
    with pytest.raises(InvalidInput, match="there already"):
        list(import_export(lines, tmp_path / "copy.db"))


@pytest.mark.parametrize("marked", [True, False])  # an older program's import is not
async def test_a_log_made_of_an_export_is_shown_and_not_written_on(tmp_path: Path, marked: bool) -> None:
    """It would take a payment that was used before."""
    folder = tmp_path / "dms"
    async with running_node(tmp_path / "first") as node:
        job_id, other = await node.job(), await node.job()
        paying = Paying(node.log, "ab" * 32, job_id)
        paying.use()
        await node.log.save(paying.payment)
        assert Paying(node.log, "ab" * 32, other).refusal
        lines = b"".join([chunk async for chunk in export_log(node.services.log, IDENTITY)]).splitlines(keepends=True)
    await asyncio.to_thread(folder.mkdir)
    assert max(import_export(lines, folder / "events.db"))
    if not marked:
        with closing(sqlite3.connect(folder / "events.db")) as connection, connection:
            connection.execute("DELETE FROM note")
    assert audit(folder / "events.db") == ""
    async with running_node(folder) as node:
        paying = Paying(node.log, "ab" * 32, other)
        paying.use()
        with pytest.raises(LogUnavailable, match=r"made from an export.*put a backup of events.db"):
            await node.log.save(paying.payment)
        async with node.client() as client:
            assert (await client.get(f"/api/v1/jobs/{job_id}")).status_code == 200
            ready = await client.get("/api/v1/readyz")
        assert (ready.status_code, "made from an export" in ready.text) == (503, True)


async def test_a_new_log_and_one_without_payments_are_written_on(tmp_path: Path) -> None:
    for _ in range(2):
        async with running_node(tmp_path) as node:
            await node.job()
            assert node.readiness.ready() is None


async def test_a_job_is_exported_whole_and_signed(tmp_path: Path) -> None:
    async with stored(tmp_path) as log:
        jobs = [event.originator_id for event in await log.read(0, 1000) if event.topic == "job.service_requested"]
        job_id = jobs[0].removeprefix("job-")
        lines = await lines_of(log, job_id)
        with pytest.raises(NotFound):
            await lines_of(log, new_id())
    assert fault_of(lines) == ""
    assert msgspec.json.decode(lines[0], type=Header).job_id == job_id
    with pytest.raises(InvalidInput, match="whole log"):
        list(import_export(lines, tmp_path / "copy.db"))
    assert not leftovers(tmp_path)


def changed_record(line: bytes) -> bytes:
    record = msgspec.json.decode(line, type=SignedRecord)
    return msgspec.json.encode(msgspec.structs.replace(record, time=record.time + 1)) + b"\n"


TAMPERINGS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a changed line": lambda lines: [*lines[:5], changed_record(lines[5]), *lines[6:]],
    "two swapped lines": lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
    "a missing line": lambda lines: lines[:4] + lines[5:],
    "a doubled line": lambda lines: lines[:5] + lines[4:],
    "a cut tail": lambda lines: lines[:-3] + lines[-1:],
    "no footer": lambda lines: lines[:-1],
    "another author": lambda lines: [lines[0].replace(IDENTITY.peer_id.encode(), OTHER.peer_id.encode()), *lines[1:]],
    "a broken footer": lambda lines: [*lines[:-1], lines[-1][:40] + b"\n"],
    "a line behind the footer": lambda lines: [*lines, lines[3]],
    "half a line": lambda lines: [*lines[:4], lines[4][:20]],
    "nothing": lambda _: [],
}


@pytest.mark.slow
@pytest.mark.parametrize("of_job", [False, True])
@pytest.mark.parametrize("name", TAMPERINGS)
async def test_a_tampered_export_does_not_verify(tmp_path: Path, name: str, of_job: bool) -> None:
    async with stored(tmp_path) as log:
        job_id = ""
        if of_job:
            streams = [event.originator_id for event in await log.read(0, 1000)]
            job_id = max((s for s in streams if s.startswith("job-")), key=streams.count).removeprefix("job-")
        lines = await lines_of(log, job_id)
    assert len(lines) > 6
    assert fault_of(lines) == ""
    assert fault_of(TAMPERINGS[name](lines))
    if not of_job:
        with pytest.raises(LogCorrupt):
            list(import_export(TAMPERINGS[name](lines), tmp_path / "copy.db"))
        assert not leftovers(tmp_path)


@pytest.mark.parametrize(
    "changes", [{"version": 1}, {"version": 2**63}, {"time": 2**63}, {"data": "no JSON"}, {"stream": "job-\0"}]
)
def test_an_export_that_no_log_can_hold_is_refused_in_words(tmp_path: Path, changes: dict[str, object]) -> None:
    """Its author signed it: hashes, signatures and digests fit."""
    writer = Writer(Header(kind="log", peer_id=IDENTITY.peer_id), IDENTITY.sign)
    lines, link_before = [writer.begin()], GENESIS
    for version in (1, 2):
        record = SignedRecord(
            position=version, stream="job-a", version=version, topic="job.submitted", schema_version=1, time=1,
            event_id=new_id(), correlation_id="", causation_id="", traceparent="", data="{}",
            previous=link_before.hex(), hash="", signature="",
        )  # fmt: skip
        record = msgspec.structs.replace(record, **changes) if version == 2 else record
        link_before = link(
            link_before, record.position, record.stream.encode(), record.version, record.topic.encode(), 1, record.time,
            id_bytes(record.event_id), b"", b"", b"", record.data.encode(),
        )  # fmt: skip
        lines.append(writer.record(msgspec.structs.replace(record, hash=link_before.hex())))
    lines.append(writer.end(2, link_before.hex()))
    assert fault_of(lines)
    with pytest.raises(LogCorrupt, match="line 3"):
        list(import_export(lines, tmp_path / "copy.db"))
    assert not leftovers(tmp_path)


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob("copy.db*"))
