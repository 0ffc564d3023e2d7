"""The relay against a real nats-server: each event once and in order, whatever dies."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.nats import relay as relay_module
from dms.adapters.nats.reader import read
from dms.adapters.nats.relay import NatsRelay
from dms.adapters.nats.stream import STREAM, subject, token
from dms.config import Nats
from dms.domain.event import Recorded
from dms.domain.payment import Payment
from dms.errors import ConfigError
from tests.fixtures.described import channel_of, message_of
from tests.fixtures.histories import new_job
from tests.fixtures.nats import Cutter, NatsServer, stored
from tests.fixtures.waiting import wait_for

PEER = "12D3KooWRelay"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    made = NatsServer(tmp_path / "nats")
    made.start()
    yield made
    made.kill9()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SQLiteEventLog]:
    made = SQLiteEventLog(tmp_path / "events.db", kept_events=64)
    await made.start()
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "RETRY_SECONDS", (0.02, 0.2))
    monkeypatch.setattr(relay_module, "CHECK_SECONDS", 0.2)


@asynccontextmanager
async def relaying(
    log: SQLiteEventLog, url: str, folder: Path, peer: str = PEER, **settings: Any
) -> AsyncIterator[NatsRelay]:
    made = NatsRelay(log, peer, Nats(url=url, **settings), folder / f"{peer}.json")
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def append(log: SQLiteEventLog, jobs: int) -> None:
    await asyncio.gather(*(log.save(new_job()) for _ in range(jobs)))


async def caught_up(relay: NatsRelay, log: SQLiteEventLog, seconds: float = 120) -> None:
    await wait_for(lambda: relay.status.state == "connected" and relay.status.position == log.head, seconds)


@asynccontextmanager
async def relayed(log: SQLiteEventLog, url: str, folder: Path, jobs: int) -> AsyncIterator[NatsRelay]:
    """A relay that has sent so many new jobs."""
    async with relaying(log, url, folder) as relay:
        await append(log, jobs)
        await caught_up(relay, log)
        yield relay


def positions(messages: list[dict[str, Any]], peer: str = PEER) -> list[int]:
    return [m["position"] for m in messages if m["source"].endswith(f":{peer}")]


async def test_events_old_and_new_arrive_with_id_and_subject(
    log: SQLiteEventLog, server: NatsServer, tmp_path: Path
) -> None:
    await append(log, 5)
    async with relaying(log, server.url, tmp_path) as relay:
        await caught_up(relay, log)
        await append(log, 5)
        await caught_up(relay, log)
    assert positions(await stored(server)) == list(range(1, 11))
    events = await log.read(0, 10)
    async with server.client() as client:
        for sequence, event in enumerate(events, 1):
            message = await client.jetstream().get_msg(STREAM, sequence)
            key = event.originator_id.removeprefix("job-")
            assert message.subject == f"dms.v1.{PEER}.job.{key}.service_requested"
            assert message.headers is not None
            assert message.headers["Nats-Msg-Id"] == event.event_id
            assert message.headers["Content-Type"] == "application/cloudevents+json"
            channel = channel_of(message.subject)
            name = f"{event.topic}.v{event.schema_version}"
            assert (channel, message_of(channel, message.data, message.headers)) == ("nats.job", name)


async def test_the_stream_is_made_as_documented(log: SQLiteEventLog, server: NatsServer, tmp_path: Path) -> None:
    async with relaying(log, server.url, tmp_path, max_age=2, max_mb=64) as relay:
        await wait_for(lambda: relay.status.state == "connected")
    async with server.client() as client:
        config = (await client.jetstream().stream_info(STREAM)).config
    assert config.subjects == ["dms.v1.>"]
    assert (config.storage, config.retention) == (StorageType.FILE, RetentionPolicy.LIMITS)
    assert (config.max_age, config.max_bytes, config.duplicate_window) == (2 * 86400, 64 * 1024 * 1024, 120)
    assert config.deny_delete
    assert config.deny_purge


async def test_while_nats_is_down_events_are_recorded_and_the_backlog_shows(
    log: SQLiteEventLog, server: NatsServer, tmp_path: Path
) -> None:
    server.kill9()
    async with relaying(log, server.url, tmp_path) as relay:
        await append(log, 300)
        await wait_for(lambda: relay.status.error)
        assert (relay.status.state, relay.status.position, log.head) == ("connecting", 0, 300)
        server.start()
        await caught_up(relay, log)
    assert positions(await stored(server)) == list(range(1, 301))


async def test_a_nats_that_has_no_room_is_told_and_gets_all_once_it_has(
    log: SQLiteEventLog, server: NatsServer, tmp_path: Path
) -> None:
    """Its stream takes no more, and drops nothing for what is new: as when its disk is full."""
    async with relayed(log, server.url, tmp_path, 5) as relay:
        async with server.client() as client:
            stream = client.jetstream()
            config = (await stream.stream_info(STREAM)).config
            config.discard, config.max_msgs = DiscardPolicy.NEW, 5
            await stream.update_stream(config)
            await append(log, 20)
            await wait_for(lambda: "discards new messages when it is full" in relay.status.error)
            assert (relay.status.position, log.head) == (5, 25)
            config.discard, config.max_msgs = DiscardPolicy.OLD, -1
            await stream.update_stream(config)
        await caught_up(relay, log)
        assert relay.status.error == ""
    assert positions(await stored(server)) == list(range(1, 26))


async def test_a_nats_that_hangs_is_waited_for(log: SQLiteEventLog, server: NatsServer, tmp_path: Path) -> None:
    async with relayed(log, server.url, tmp_path, 5) as relay:
        server.signal(signal.SIGSTOP)
        await append(log, 20)
        assert log.head == 25
        server.signal(signal.SIGCONT)
        await caught_up(relay, log)
    assert positions(await stored(server)) == list(range(1, 26))


@pytest.mark.slow
async def test_nats_killed_again_and_again_loses_and_doubles_nothing(
    log: SQLiteEventLog, server: NatsServer, tmp_path: Path
) -> None:
    """The stream has each once and in order, and so has a reader that followed it all the while."""
    chance = random.Random(7)
    seen: list[int] = []

    async def follow() -> None:
        async with aclosing(read(Nats(url=server.url), follow=True)) as events:
            async for event in events:
                seen.extend([event["position"]])

    async with relayed(log, server.url, tmp_path, 1) as relay:
        reader = asyncio.create_task(follow())
        await wait_for(lambda: seen)
        for _ in range(6):
            writing = asyncio.create_task(append(log, 400))
            await asyncio.sleep(chance.uniform(0, 0.15))
            server.kill9()
            await writing
            server.start()
        await caught_up(relay, log)
        await wait_for(lambda: len(seen) >= log.head or reader.done())
        await relay_module.ended(reader)
    assert positions(await stored(server)) == list(range(1, 2402))
    assert seen == list(range(1, 2402))


@pytest.mark.slow
async def test_cut_connections_with_lost_answers_and_no_duplicate_window_double_nothing(
    log: SQLiteEventLog, server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream forgets ids after 100 ms; the relay waits longer than that before it tries again."""
    monkeypatch.setattr(relay_module, "RETRY_SECONDS", (0.3, 0.4))
    async with server.client() as client:
        config = StreamConfig(
            name=STREAM, subjects=["dms.v1.>"], storage=StorageType.FILE, retention=RetentionPolicy.LIMITS,
            duplicate_window=0.1,
        )  # fmt: skip
        await client.jetstream().add_stream(config)
    chance = random.Random(11)
    cutter = Cutter(server.port)
    await cutter.start()
    try:
        async with relaying(log, cutter.url, tmp_path) as relay:
            for _ in range(12):
                await append(log, 300)
                await wait_for(lambda: relay.status.state == "connected")
                await asyncio.sleep(chance.uniform(0, 0.03))
                cutter.cut()
            await caught_up(relay, log)
    finally:
        await cutter.close()
    assert positions(await stored(server)) == list(range(1, 3601))


async def test_nats_that_lost_its_data_gets_everything_again_from_the_beginning(
    log: SQLiteEventLog, server: NatsServer, tmp_path: Path
) -> None:
    async with relayed(log, server.url, tmp_path, 200) as relay:
        server.kill9()
        server.wipe()
        await append(log, 50)
        server.start()
        await caught_up(relay, log)
    assert positions(await stored(server)) == list(range(1, 251))


async def test_a_stream_deleted_under_the_relay_is_made_and_filled_again(
    log: SQLiteEventLog, server: NatsServer, tmp_path: Path
) -> None:
    async with relayed(log, server.url, tmp_path, 100) as relay:
        async with server.client() as client:
            await client.jetstream().delete_stream(STREAM)
        async with asyncio.timeout(120):
            while positions(await stored(server)) != list(range(1, 101)):
                await asyncio.sleep(0.05)
        assert relay.status.state == "connected"


async def test_events_that_the_stream_has_dropped_are_not_sent_again(
    log: SQLiteEventLog, server: NatsServer, tmp_path: Path
) -> None:
    async with server.client() as client:
        config = StreamConfig(
            name=STREAM, subjects=["dms.v1.>"], storage=StorageType.FILE, retention=RetentionPolicy.LIMITS
        )
        await client.jetstream().add_stream(config)
    async with relaying(log, server.url, tmp_path) as relay:
        await append(log, 20)
        await caught_up(relay, log)
    async with server.client() as client:
        await client.jetstream().purge_stream(STREAM)
    async with relaying(log, server.url, tmp_path) as relay:
        await append(log, 3)
        await caught_up(relay, log)
    assert positions(await stored(server)) == [21, 22, 23]


async def test_several_devices_share_a_stream_each_in_order(server: NatsServer, tmp_path: Path) -> None:
    peers = ["12D3KooWA", "12D3KooWB", "12D3KooWC"]

    async def work(peer: str) -> None:
        (tmp_path / peer).mkdir()
        own = SQLiteEventLog(tmp_path / peer / "events.db")
        await own.start()
        async with relaying(own, server.url, tmp_path, peer) as relay:
            for _ in range(10):
                await append(own, 30)
                await asyncio.sleep(0.01)
            await caught_up(relay, own, 60)
        await own.close()

    await asyncio.gather(*(work(peer) for peer in peers))
    messages = await stored(server)
    for peer in peers:
        assert positions(messages, peer) == list(range(1, 301))
    assert len(messages) == 900


async def test_another_history_of_the_same_device_is_refused(
    log: SQLiteEventLog, server: NatsServer, tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    other = SQLiteEventLog(tmp_path / "old" / "events.db")
    await other.start()
    async with relaying(other, server.url, tmp_path) as relay:
        await append(other, 10)
        await caught_up(relay, other)
    await other.close()
    await append(log, 30)
    async with relaying(log, server.url, tmp_path) as relay:
        await wait_for(lambda: relay.status.state == "refused")
        assert "another history" in relay.status.error
    assert len(await stored(server)) == 10


async def test_a_stream_that_would_lose_events_is_refused_with_the_reason(
    log: SQLiteEventLog, server: NatsServer, tmp_path: Path
) -> None:
    async with server.client() as client:
        config = StreamConfig(name=STREAM, subjects=["dms.v1.>"], storage=StorageType.MEMORY, max_msgs_per_subject=1)
        await client.jetstream().add_stream(config)
    async with relaying(log, server.url, tmp_path) as relay:
        await wait_for(lambda: relay.status.state == "refused")
        assert "in memory" in relay.status.error
        assert "only some messages" in relay.status.error


async def test_an_event_larger_than_nats_takes_holds_the_relay_and_says_so(log: SQLiteEventLog, tmp_path: Path) -> None:
    small = NatsServer(tmp_path / "small", "max_payload: 600")
    small.start()
    try:
        async with relaying(log, small.url, tmp_path) as relay:
            await append(log, 2)
            await wait_for(lambda: relay.status.state == "refused")
            assert "position 1" in relay.status.error
            assert "max_payload" in relay.status.error
    finally:
        small.kill9()


@pytest.mark.slow
async def test_daemons_killed_at_random_go_on_where_they_were(server: NatsServer, tmp_path: Path) -> None:
    """A process that appends and relays, killed by -9; in between the server too."""
    chance = random.Random(3)
    child = [sys.executable, "-m", "tests.integration.nats.appending", str(tmp_path), server.url, PEER]
    root = Path(__file__).parents[3]
    for round_ in range(8):
        process = await asyncio.create_subprocess_exec(*child, "forever", cwd=root, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 120) == b"begun\n"
        await asyncio.sleep(chance.uniform(0, 0.5))  # where it dies is left to chance
        process.kill()
        await process.wait()
        if round_ in (3, 6):
            server.kill9()
            server.start()
    done = await asyncio.create_subprocess_exec(*child, "catch up", cwd=root, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(done.communicate(), 120)
    head = int(out)
    assert positions(await stored(server)) == list(range(1, head + 1))


# --- subjects, secrets ------------------------------------------------------------------------------
@pytest.mark.parametrize("key", ["a.b", "a b", "*", ">", "ключ", "", "x" * 5000, "\r\nPUB x 0\r\n"])
async def test_keys_that_users_choose_make_one_plain_token(
    log: SQLiteEventLog, server: NatsServer, tmp_path: Path, key: str
) -> None:
    payment = Payment(key)
    payment.use("0198c0de-0000-7000-8000-000000000000")
    await log.save(payment)
    (event,) = await log.read(0, 1)
    assert isinstance(event, Recorded)
    assert subject(event, PEER).count(".") == 5
    async with relaying(log, server.url, tmp_path) as relay:
        await caught_up(relay, log)
    (message,) = await stored(server)
    assert message["subject"] == f"payment-{key}"


def test_long_keys_stay_different() -> None:
    assert token("x" * 500) != token("x" * 501)
    assert len(token("x" * 500)) <= 96


async def test_a_wrong_password_is_told_and_never_shown(
    log: SQLiteEventLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    guarded = NatsServer(tmp_path / "guarded", 'authorization { user: "dms", password: "right-one" }')
    guarded.start()
    (tmp_path / "secret").write_text("guessed-wrong\n")
    try:
        with caplog.at_level(logging.DEBUG):
            async with relaying(
                log, guarded.url, tmp_path, user="dms", password_file=str(tmp_path / "secret")
            ) as relay:
                await wait_for(lambda: relay.status.error)
        assert "uthorization" in relay.status.error
        assert "guessed-wrong" not in caplog.text
        assert "guessed-wrong" not in repr(relay.status)
        (tmp_path / "secret").write_text("right-one\n")
        async with relaying(log, guarded.url, tmp_path, user="dms", password_file=str(tmp_path / "secret")) as relay:
            await append(log, 3)
            await caught_up(relay, log)
    finally:
        guarded.kill9()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"url": "127.0.0.1:4222"}, "nats://HOST:PORT"),
        ({"url": "nats://me:hidden-word@host:4222"}, "does not belong in an address"),
        ({"user": "a", "password": "hidden-word", "token": "b"}, "only one way"),
        ({"user": "a"}, "needs a password"),
        ({"token_file": "/does/not/exist"}, "can't be read"),
        ({"tls_cert": "cert.pem"}, "needs both"),
        ({"tls_ca": "/does/not/exist"}, "tls_ca"),
    ],
)
async def test_settings_that_cannot_work_are_told_at_start(
    log: SQLiteEventLog, tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as raised:
        NatsRelay(log, PEER, Nats(**{"url": "nats://127.0.0.1:4222", **settings}), tmp_path / "state.json")
    assert "hidden-word" not in str(raised.value)
