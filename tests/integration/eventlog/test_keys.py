"""Personal fields on the disk: sealed in the log, open to who holds the keys, gone with them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from eventsourcing.persistence import OperationalError

from dms.adapters.eventlog import sqlite_keys
from dms.adapters.eventlog.keyring import KeyRow
from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.mapper import LogStore
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.database import connect, emptied_journal
from dms.domain.deployment import Deployment
from dms.domain.job import Job
from dms.domain.sealing import ERASED
from dms.errors import LogUnavailable
from tests.fixtures.histories import START, Author, new_job, paid, request
from tests.fixtures.waiting import wait_for

TX = "0xfeedc0de" * 8
ADDRESS = "addr_test1vzpwq95z3xyum8vqndgdd9mdnmafh3djcxnc6jemlgdmswcve6tkw"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
async def log(database: Path) -> AsyncIterator[SQLiteEventLog]:
    made = SQLiteEventLog(database)
    await made.start()
    yield made
    await made.close()


def asked_for(key: str = "0198c0de-0000-7000-8000-000000000000") -> Job:
    job = Job(key)
    job.request_service(
        request("https://example.org/secret.py", address_user=ADDRESS), "12D3KooWProvider", "0.1", START, (), 0
    )
    job.report_fund_status(paid(TX))
    return job


def on_disk(folder: Path, wanted: bytes) -> list[str]:
    return [path.name for path in folder.iterdir() if wanted in path.read_bytes()]


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def read(database: Path) -> Iterator[Job.ServiceRequested]:
    recorder = SQLiteRecorder(database, own=False)
    with closing(recorder):
        for one in LogStore(recorder).read(0, 10):
            if isinstance(one.event, Job.ServiceRequested):
                yield one.event


async def test_commands_are_written_while_a_reader_keeps_an_erasure_waiting(
    log: SQLiteEventLog, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, tries = asked_for(), 0

    def counted(connection: sqlite3.Connection) -> bool:
        nonlocal tries
        tries += 1
        return emptied_journal(connection)

    monkeypatch.setattr(sqlite_keys, "emptied_journal", counted)
    await log.save(job)
    with closing(connect(database, read_only=True)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchone()
        erasing = asyncio.create_task(log.destroy_seal_keys([job.key]))
        await wait_for(lambda: tries >= 3)
        for _ in range(20):
            await log.save(new_job())
        assert not erasing.done()
        assert not log.trouble
    assert await erasing == 1


async def test_nothing_of_a_person_is_on_the_disk_and_all_of_it_can_be_read(
    log: SQLiteEventLog, database: Path, tmp_path: Path
) -> None:
    job = asked_for()
    await log.save(job)
    for text in (ADDRESS, TX, "secret.py", "registry.example/job"):
        assert on_disk(tmp_path, text.encode()) == []
    (event,) = read(database)
    assert event.request == job.request
    stored = msgspec.json.decode((await log.read(0, 1))[0].data)
    assert stored["price"] == "0.1"
    assert stored["request"]["constraints"]["time"] == 1


async def test_the_key_is_on_the_disk_with_the_first_event_it_seals(log: SQLiteEventLog, database: Path) -> None:
    job = asked_for()
    await log.save(job)
    secret = log.seal_key(job.key)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT scope, secret FROM seal_key").fetchall() == [(job.key, secret)]


async def test_a_destroyed_key_takes_the_fields_along_and_leaves_the_chain(
    log: SQLiteEventLog, database: Path, tmp_path: Path
) -> None:
    job, other = asked_for(), asked_for("0198c0de-1111-7000-8000-000000000000")
    await log.save(job)
    await log.save(other)
    secret, kept = log.seal_key(job.key), log.seal_key(other.key)
    assert await log.destroy_seal_keys([job.key]) == 1
    assert await log.destroy_seal_keys([job.key]) == 1  # as for who tries again and was not told
    again = log.load(Job, job.key)
    assert again is not None
    assert again.request is not None
    assert (again.tx_hash, again.request.address_user, again.request.params.packages) == (ERASED, ERASED, ())
    assert (again.price, again.minutes, again.state) == (job.price, job.minutes, job.state)
    recent = [one.event for one in await log.read(0, 10) if isinstance(one.event, Job.ServiceRequested)]
    assert [event.request.address_user for event in recent] == [ERASED, ADDRESS]
    assert [event.request.address_user for event in read(database)] == [ERASED, ADDRESS]
    assert list(log.verify())[-1] == log.head
    assert on_disk(tmp_path, secret) == []
    assert on_disk(tmp_path, kept) == ["events.db"]


async def test_a_sealed_value_is_opened_by_its_own_job_and_purpose_while_its_key_is_there(log: SQLiteEventLog) -> None:
    job, other = asked_for(), asked_for("0198c0de-1111-7000-8000-000000000000")
    token = log.seal(job.key, "hush", "token")
    log.seal(other.key, "hush", "token")
    await log.save(job, other)
    assert "hush" not in token
    assert log.unseal(job.key, token, "token") == "hush"
    assert [log.unseal(other.key, token, "token"), log.unseal(job.key, token, "other")] == [None, None]
    assert [log.unseal(job.key, text, "token") for text in ("", "x.y", token[:-4], "é." + token)] == [None] * 4
    await log.destroy_seal_keys([job.key])
    assert log.unseal(job.key, token, "token") is None


async def test_of_thousands_of_keys_none_leaves_a_copy_behind(log: SQLiteEventLog, tmp_path: Path) -> None:
    """Pages of the key table fill, and a checkpoint moves them, while it grows."""
    scopes = [f"0198c0de-0000-7000-8000-{number:012x}" for number in range(2000)]
    for start in range(0, len(scopes), 100):
        for scope in scopes[start : start + 100]:
            log.seal_key(scope)
        await log.save(asked_for(f"0198c0de-2222-7000-8000-{start:012x}"))
    secrets = {scope: log.seal_key(scope) for scope in scopes}
    doomed = scopes[::3]
    assert await log.destroy_seal_keys(doomed) == len(doomed)
    content = everything(tmp_path)
    assert [scope for scope in doomed if secrets[scope] in content] == []
    assert all(secrets[scope] in content for scope in scopes if scope not in doomed)


async def test_a_scope_gets_a_new_key_after_its_old_one(log: SQLiteEventLog) -> None:
    first = log.seal_key("provider-12D3KooWOne")
    await log.save(asked_for())
    await log.destroy_seal_keys(["provider-12D3KooWOne"])
    assert log.seal_key("provider-12D3KooWOne") != first


async def test_a_peers_key_is_taken_unless_there_is_one(log: SQLiteEventLog) -> None:
    log.adopt_seal_key("0198c0de-3333-7000-8000-000000000000", bytes(32))
    log.adopt_seal_key("0198c0de-3333-7000-8000-000000000000", bytes(31) + b"x")
    assert log.seal_key("0198c0de-3333-7000-8000-000000000000") == bytes(32)


async def test_a_token_that_is_none_reads_as_erased(log: SQLiteEventLog) -> None:
    for token in ("", ".", "zz.AAAA", f"{'0' * 32}.{'A' * 40}", f"{'0' * 32}.!", "\ud7ff.é"):
        assert log.recorder.keys.open(token, "job.failed") is None


def test_a_log_of_format_1_is_brought_up_to_date(database: Path) -> None:
    with closing(SQLiteRecorder(database)):
        pass
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(
            "DROP TABLE seal_key; DROP TABLE segment; DROP TABLE block; DROP TABLE archived;PRAGMA user_version = 1;"
        )
    with closing(SQLiteRecorder(database)) as recorder:
        assert len(recorder.keys.pseudonym("0xab")) == 32


async def test_pseudonyms_stay_and_are_this_nodes_own(log: SQLiteEventLog, tmp_path: Path) -> None:
    other = SQLiteEventLog(tmp_path / "other.db")
    assert log.pseudonym(TX) == log.pseudonym(TX) != other.pseudonym(TX)
    await other.start()
    await other.close()


async def test_where_a_provider_was_looked_for_is_not_in_the_clear(log: SQLiteEventLog, tmp_path: Path) -> None:
    job = asked_for()
    job.accept_funding("trust")
    job.provider_unreachable("Peer 12D3KooWProvider can't be dialled at /ip4/192.0.2.7/tcp/9000.")
    job.trigger(Job.DeploymentResponded(success=True, content=""))
    job.lose_checkpoint(1, "not fetched: it can't be dialled at /ip4/192.0.2.7/tcp/9000.")
    await log.save(job)
    assert on_disk(tmp_path, b"192.0.2.7") == []


async def test_keys_that_can_not_be_read_just_now_are_trouble_that_passes(
    log: SQLiteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of a peer's that can't be opened now would else count as an error of ours."""
    author = Author()
    record = author.record("0198c0de", Deployment.Requested(service_provider="p", request=request(), price="1"), 1)

    def locked(_: str) -> KeyRow | None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(log.recorder.keys._rows, "of_scope", locked)
    asked: list[Callable[[], object]] = [
        lambda: log.seal_key("job"),
        lambda: log.seal("job", "text", "topic"),
        lambda: log.unseal("job", "token", "topic"),
        lambda: log.open_record(record),
    ]
    for ask in asked:
        with pytest.raises(LogUnavailable, match="just now"):
            ask()
    assert not log.trouble
