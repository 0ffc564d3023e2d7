"""A service provider and a compute provider at work, with all that they do to their disks, and a ledger for each: what
somebody outside was told, and at which step of the disk at the latest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson
import websockets
from msgspec import Struct

from tests.e2e.test_checkpoints import received, resuming
from tests.fixtures.disk_shim import DiskShim, Done, read_trace
from tests.fixtures.dms import Dms, Follower, payment, request_body, unlike_pair
from tests.fixtures.plain_http import NO_TLS
from tests.fixtures.waiting import wait_for

SETTINGS = {"job.log_update_interval": "0.01"}  # minutes: a checkpoint every 0.6 s
SCRIPT = (
    "cd /workspace; mkdir results; head -c 200000 /dev/urandom > results/model; "
    "for i in 1 2 3 4; do echo line $i; echo state $i > state; sleep 0.4; done; {end}"
)


class Told(Struct, frozen=True):
    """By the event stream: that the log has this link at this position."""

    step: int
    position: int
    link: str


class Ledger(Struct, kw_only=True):
    """peer_id: of the daemon, known from step `known_at` on. acknowledged: (step, stream) of answered requests.
    ready_at: steps at which the daemon was ready."""

    peer_id: str = ""
    known_at: int = 0
    told: list[Told] = []
    acknowledged: list[tuple[int, str]] = []
    ready_at: list[int] = []


class Recording(Struct, kw_only=True):
    """Of one role."""

    role: str
    steps: list[Done]
    ledger: Ledger


class Recorder:
    """Of one daemon, over all its lives."""

    def __init__(self, folder: Path, role: str) -> None:
        """folder: of both daemons; each has one below it."""
        self.role, self.shim = role, DiskShim(folder / "shims" / role, folder / role, record=True)
        self.ledger = Ledger()
        self._following: asyncio.Task[None] | None = None

    def follow(self, dms: Dms) -> None:
        self._following = asyncio.create_task(self._follow(dms))

    async def _follow(self, dms: Dms) -> None:
        while True:
            with contextlib.suppress(httpx.TransportError):
                await self._read(dms)
            await asyncio.sleep(0.02)

    async def _read(self, dms: Dms) -> None:
        after = self.ledger.told[-1].position if self.ledger.told else 0
        async with (
            httpx.AsyncClient(verify=NO_TLS, timeout=120) as client,
            client.stream("GET", f"{dms.url}/api/v1/events?follow=true&after={after}") as answer,
        ):
            async for line in answer.aiter_lines():
                if line and answer.status_code == 200:
                    event = orjson.loads(line)
                    self.ledger.told.append(Told(self.shim.steps, event["position"], event["hash"]))

    async def is_ready(self, dms: Dms) -> None:
        await dms.ready()
        own = await dms.get("/peers/self")
        if not self.ledger.peer_id:
            self.ledger.peer_id, self.ledger.known_at = own["ID"], self.shim.steps
        self.ledger.ready_at.append(self.shim.steps)

    async def caught_up(self, dms: Dms) -> None:
        """The ledger has all that the log has."""
        head = dms.head()
        await wait_for(lambda: self.ledger.told and self.ledger.told[-1].position >= head)

    async def again(self, dms: Dms, *, kill: bool) -> None:
        """It ends, and starts again on the same disk."""
        await asyncio.to_thread(dms.kill9 if kill else dms.stop)
        self.shim.begin_anew()
        dms.start()
        await self.is_ready(dms)

    def acknowledge(self, stream: str) -> None:
        self.ledger.acknowledged.append((self.shim.steps, stream))

    async def close(self) -> Recording:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        return Recording(role=self.role, steps=read_trace(self.shim.trace), ledger=self.ledger)


@asynccontextmanager
async def recorded_pair(folder: Path) -> AsyncIterator[tuple[tuple[Dms, Recorder], tuple[Dms, Recorder]]]:
    """Both from their first moment on."""
    recorders = {role: Recorder(folder, role) for role in ("sp", "cp")}
    given = folder / "given"
    given.mkdir()
    (given / "given.txt").write_text("an input\n")
    async with unlike_pair(
        folder, {**SETTINGS, "files.send_folders": str(given)}, SETTINGS, {},
        sp_environment=recorders["sp"].shim.environment, cp_environment=recorders["cp"].shim.environment,
    ) as (sp, cp):  # fmt: skip
        for dms, recorder in ((sp, recorders["sp"]), (cp, recorders["cp"])):
            await recorder.is_ready(dms)
            recorder.follow(dms)
        yield (sp, recorders["sp"]), (cp, recorders["cp"])


async def record(folder: Path) -> Sequence[Recording]:
    """Jobs with inputs, checkpoints and results, one that fails, one that goes on from a checkpoint; both daemons stop
    and start in between, and once they are killed; a person is erased."""
    async with recorded_pair(folder) as ((sp, of_sp), (cp, of_cp)):
        first = await _run(sp, of_sp, _body(folder, "true"), "tx-first")
        archive = await received(sp, first)
        await of_cp.again(cp, kill=False)
        await of_sp.again(sp, kill=False)  # after it, so that it can't take the one that is going down for seen
        await sp.sees_provider()
        await asyncio.gather(
            _run(sp, of_sp, _body(folder, "exit 3"), "tx-second"),
            _run(sp, of_sp, resuming(_body(folder, "true"), archive.name), "tx-third"),
        )
        await asyncio.gather(of_sp.again(sp, kill=True), of_cp.again(cp, kill=True))
        for dms, recorder in ((sp, of_sp), (cp, of_cp)):
            erased = await dms.post("/erasures", {"subject": request_body("")["address_user"], "skip_open": True})
            recorder.acknowledge(f"erasure-{erased['erasure_id']}")
            await recorder.caught_up(dms)
        return [await of_sp.close(), await of_cp.close()]


def _body(folder: Path, end: str) -> dict[str, object]:
    body = request_body(SCRIPT.replace("{end}", end))
    body["params"]["inputs"] = [{"url": (folder / "given" / "given.txt").as_uri()}]
    return body


async def _run(sp: Dms, of_sp: Recorder, body: dict[str, object], tx_hash: str) -> str:
    job_id: str = (await sp.post("/run/request-service", body))["job_id"]
    of_sp.acknowledge(f"job-{job_id}")
    async with websockets.connect(f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy", open_timeout=120) as socket:
        await socket.send(payment(tx_hash, job_id))
        follower = Follower(sp, job_id)
        await follower.until_over()
    return job_id
