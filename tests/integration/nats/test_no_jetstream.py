"""A nats-server that keeps nothing: it is said what is missing there, and how it is turned on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.nats.reader import read
from dms.adapters.nats.relay import NatsRelay
from dms.config import Nats
from dms.errors import DmsError
from tests.fixtures.histories import new_job
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import wait_for

WITHOUT = {
    "the server": "",
    "the account": """
        accounts {
          with { jetstream: enabled, users: [{ user: "a", password: "b" }] }
          without { users: [{ user: "dms", password: "secret" }] }
        }
        no_auth_user: "dms"
    """,
}


@pytest.fixture(params=WITHOUT)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NatsServer]:
    made = NatsServer(tmp_path / "nats", WITHOUT[request.param])
    if request.param == "the server":
        lines = made._file.read_text().splitlines()
        made._file.write_text("\n".join(line for line in lines if "jetstream" not in line))
    made.start()
    yield made
    made.kill9()


def is_explained(text: str) -> bool:
    return "JetStream" in text and "-js" in text and "None" not in text


async def test_a_reader_is_told(server: NatsServer) -> None:
    with pytest.raises(DmsError) as told:
        async with aclosing(read(Nats(url=server.url))) as events:
            await anext(events)
    assert is_explained(str(told.value)), told.value


async def test_the_relay_tells_its_operator(
    server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = SQLiteEventLog(tmp_path / "events.db")
    await log.start()
    await log.save(new_job())
    relay = NatsRelay(log, "12D3KooWRelay", Nats(url=server.url), tmp_path / "relay.json")
    await relay.start()
    await wait_for(lambda: any(is_explained(record.getMessage()) for record in caplog.records))
    await relay.close()
    await log.close()
