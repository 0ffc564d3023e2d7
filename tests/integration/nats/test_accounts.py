"""The settings in ops/nats: the DMS writes on its own subjects only, a JavaScript client reads, and can do no more."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.nats.relay import NatsRelay, inbox_of
from dms.config import Nats
from tests.fixtures.histories import new_job
from tests.fixtures.nats import PROGRAM, NatsServer, stored
from tests.fixtures.npm import NODE, installed
from tests.fixtures.waiting import wait_for

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "tests" / "fixtures" / "js_nats"
PEER = "12D3KooWPublisher"
DMS, MONITOR = "of-the-dms", "of-the-monitor"
READER: dict[str, Any] = {"user": "monitor", "password": MONITOR, "inbox_prefix": "_INBOX_MONITOR"}


class Guarded(NatsServer):
    """With the settings of ops/nats, at our port and folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        text = (ROOT / "ops" / "nats" / "nats-server.conf").read_text().replace("PEER_ID", PEER)
        text = text.replace("127.0.0.1:4222", f"127.0.0.1:{self.port}").replace("/var/lib/nats", str(self.store))
        self._file.write_text(text)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NatsServer]:
    monkeypatch.setenv("DMS_PASSWORD", DMS)
    monkeypatch.setenv("MONITOR_PASSWORD", MONITOR)
    made = Guarded(tmp_path / "nats")
    made.start()
    yield made
    made.kill9()


@pytest.fixture
async def relayed(server: NatsServer, tmp_path: Path) -> AsyncIterator[int]:
    """The number of events that a DMS has published."""
    log = SQLiteEventLog(tmp_path / "events.db")
    await log.start()
    (tmp_path / "password").write_text(DMS)
    settings = Nats(url=server.url, user="dms", password_file=str(tmp_path / "password"))
    relay = NatsRelay(log, PEER, settings, tmp_path / "relay.json")
    await relay.start()
    for _ in range(20):
        job = new_job()
        job.request_termination("enough")
        await log.save(job)
    await wait_for(lambda: relay.status.position == log.head)
    yield log.head
    await relay.close()
    await log.close()


@pytest.fixture(scope="session")
def js_folder() -> Path:
    """With its packages installed, once for each lock file. node and npm must be there."""
    return installed(FOLDER)


@pytest.mark.slow
async def test_a_javascript_client_reads_valid_events_and_can_do_no_more(
    server: NatsServer, relayed: int, js_folder: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(str(NODE), str(js_folder / "reader.mjs"), server.url, "monitor", MONITOR, "_INBOX_MONITOR"),
        *(str(ROOT / "schemas"), str(relayed)),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        out, _ = await process.communicate()
    found = json.loads(out)
    assert found["positions"] == list(range(1, relayed + 1))
    assert found["invalid"] == []
    assert set(found["sources"]) == {f"urn:nunet:dms:peer:{PEER}"}
    done = {name: text for name, text in found["refused"].items() if text.startswith("DONE")}
    assert not done
    assert "ermission" in found["refused"]["publish"]
    assert "cycle" in found["refused"]["deliverIntoStream"]
    assert found["left"] == relayed
    assert len(await stored(server, **READER)) == relayed


@pytest.mark.slow
async def test_the_documented_javascript_client_runs_as_it_is_written(
    server: NatsServer, relayed: int, js_folder: Path
) -> None:
    """docs/monitoring.md shows failed jobs; here, for events that there are, those that were asked to end."""
    snippet = (ROOT / "docs" / "monitoring.md").read_text().split("```js\n")[1].split("```")[0]
    assert "nats://127.0.0.1:4222" in snippet
    assert "job.*.failed" in snippet
    program = snippet.replace("nats://127.0.0.1:4222", server.url).replace(".failed", ".termination_requested")
    process = await asyncio.create_subprocess_exec(
        *(str(NODE), "--input-type=module", "--eval", program),
        cwd=js_folder,
        env={**os.environ, "DMS_NATS_PASSWORD": MONITOR},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    shown = b""
    try:
        async with asyncio.timeout(120):
            while shown.count(b"specversion") < 20:
                read = await process.stdout.read(65536)
                assert read, f"it ended, and had shown: {shown.decode()}"
                shown += read
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    assert shown.count(b"job.termination_requested") >= 20


async def tailed(server: NatsServer, *arguments: str, user: str = "monitor", expect: int = 0) -> list[dict[str, Any]]:
    """What `nunet events tail --nats` shows as the reader."""
    login = {"DMS_NATS_URL": server.url, "DMS_NATS_USER": user, "DMS_NATS_PASSWORD": MONITOR}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dms.cli", "events", "tail", "--nats", "-o", "jsonl", *arguments),
        env={**os.environ, **login},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    assert process.returncode == expect, err.decode()
    assert MONITOR.encode() not in err
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.slow
async def test_the_command_line_leaves_out_what_no_dms_sent(server: NatsServer, relayed: int) -> None:
    client = Client()
    await client.connect(server.url, user="dms", password=DMS, inbox_prefix=inbox_of(PEER))
    for body in (b"{}", b'{"position":"1"}', b"\x1b]0;owned\x07"):
        await client.jetstream().publish(f"dms.v1.{PEER}.job.x.odd", body)
    await client.close()
    assert [event["position"] for event in await tailed(server, "--after", "0")] == list(range(1, relayed + 1))


@pytest.mark.slow
async def test_the_command_line_reads_the_stream_as_the_reader(server: NatsServer, relayed: int) -> None:
    assert [event["position"] for event in await tailed(server, "--after", "0")] == list(range(1, relayed + 1))
    assert [event["position"] for event in await tailed(server, "-n", "5")] == list(range(relayed - 4, relayed + 1))
    ended = await tailed(server, "--type", "job.termination_requested,device")
    assert len(ended) == 20
    of_one = await tailed(server, "--job", ended[0]["correlationid"])
    assert [event["subject"] for event in of_one] == [ended[0]["subject"]] * len(of_one)
    assert len(await tailed(server, "--follow", "-n", "3")) == 3
    assert await tailed(server, "--job", "0198c0de-0000-7000-8000-000000000000") == []
    assert await tailed(server, user="nobody", expect=1) == []


async def until_told(refused: list[str], count: int) -> None:
    """The library hands errors over in tasks of their own."""
    for _ in range(500):
        if len(refused) >= count:
            return
        await asyncio.sleep(0.01)


async def test_the_publisher_can_write_only_as_itself_and_delete_nothing(server: NatsServer, relayed: int) -> None:
    refused: list[str] = []

    async def on_error(error: Exception) -> None:
        refused.append(str(error))

    client = Client()
    inbox = inbox_of(PEER)
    await client.connect(server.url, user="dms", password=DMS, inbox_prefix=inbox, error_cb=on_error)
    subjects = (
        "dms.v1.12D3KooWAnother.job.x.forged", "$JS.API.STREAM.DELETE.DMS", "$JS.API.STREAM.PURGE.DMS",
        "$JS.API.STREAM.MSG.DELETE.DMS", "$JS.API.STREAM.UPDATE.DMS", "$JS.API.CONSUMER.CREATE.DMS.x",
    )  # fmt: skip
    for subject in subjects:
        await client.publish(subject, b"{}")
    await client.subscribe("dms.v1.>")
    await client.flush()
    await until_told(refused, len(subjects) + 1)
    await client.close()
    for subject in (*subjects, "dms.v1.>"):
        assert any(subject.casefold() in text.casefold() for text in refused), (subject, refused)
    assert len(await stored(server, **READER)) == relayed


async def test_nobody_comes_in_without_a_password(server: NatsServer) -> None:
    client = Client()

    async def on_error(_error: Exception) -> None: ...

    with pytest.raises(Exception, match="uthorization"):
        await client.connect(server.url, allow_reconnect=False, error_cb=on_error)
    await client.close()


def test_the_settings_are_valid_as_they_are(tmp_path: Path) -> None:
    """With TLS taken in, too: the server checks its own file."""
    text = (ROOT / "ops" / "nats" / "nats-server.conf").read_text().replace("PEER_ID", PEER)
    path = tmp_path / "nats.conf"
    path.write_text(text)
    environment = {**os.environ, "DMS_PASSWORD": "a", "MONITOR_PASSWORD": "b"}
    done = subprocess.run(
        [PROGRAM, "-t", "-c", str(path)], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
