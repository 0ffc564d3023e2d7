"""A process to be killed: appends events and relays them. Arguments: folder, NATS url, peer id, and
"forever", or "catch up": appends nothing, prints the head once all of it is confirmed, and ends."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.nats.relay import NatsRelay
from dms.config import Nats
from tests.fixtures.histories import new_job


async def main(folder: Path, url: str, peer: str, what: str) -> None:
    log = SQLiteEventLog(folder / "events.db")
    await log.start()
    relay = NatsRelay(log, peer, Nats(url=url), folder / "relay.json")
    await relay.start()
    if what == "forever":
        sys.stdout.write("begun\n")
        sys.stdout.flush()
    while what == "forever":
        await log.save(new_job())
        await asyncio.sleep(0.001)
    while relay.status.state != "connected" or relay.status.position != log.head:
        await asyncio.sleep(0.01)
    await relay.close()
    sys.stdout.write(f"{log.head}\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:5]))
