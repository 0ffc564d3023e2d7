"""A compute provider whose jobs are processes, all that it shows of itself, and a peer that hears what is told of it.

What is done to it is named by methods that take plain values, so that a test can draw long rows of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import msgspec
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families as families

from dms.adapters.eventlog.durable_log import DurableEventLog
from dms.adapters.p2p.identity import Identity
from dms.application.network.messages import (
    AD_SNAPSHOT,
    AD_TOPIC,
    DEPLOYMENT_REQUEST,
    DeploymentAnswer,
    DeploymentRequest,
    Snapshot,
    SnapshotRequest,
    encode,
)
from dms.bootstrap import build
from dms.config import Rest
from dms.daemon import Daemon
from dms.domain.deployment import Deployment, DeploymentState, Fault
from dms.domain.device import CHANNELS, Offer
from dms.domain.directory import Advertisement, SignedAdvertisement
from dms.domain.event import new_id
from dms.domain.gpus import GpuReading
from dms.errors import Conflict, InvalidInput, Unavailable
from dms.wiring.overrides import Overrides
from tests.fixtures.disks import broken_disk
from tests.fixtures.failing_executor import LeavingExecutor
from tests.fixtures.histories import request
from tests.fixtures.memory_network import MemoryLine, MemoryNetwork
from tests.fixtures.plain_http import NO_TLS
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import ADDRESS, FixedHardware, settings

API = "/api/v1"
LISTENER = Identity.generate()
TX_USED_BEFORE = "ab" * 32


class Heard(Struct, frozen=True):
    """troubled: whether nothing could be recorded about then, which is the one hindrance that is not an event."""

    advertisement: Advertisement
    troubled: bool


class Shown(Struct, frozen=True):
    """At one position of the log. capacity: the row of this device, None where there is none. dump: its PeerData.
    gauges: sample name and `of` -> value. asked: what a peer gets that asks, None for nothing."""

    position: int
    capacity: dict[str, Any] | None
    dump: dict[str, Any]
    gauges: dict[tuple[str, str], float]
    asked: Advertisement | None


class Station:
    def __init__(self, folder: Path) -> None:
        self._folder, self._line, self.hardware = folder, MemoryLine(), FixedHardware()
        self.daemon: Daemon
        self.executor: LeavingExecutor
        self.heard: list[Heard] = []
        self.channels: dict[str, str] = {}  # job id -> the channel that it was asked for on
        self._peer = MemoryNetwork(self._line, LISTENER.peer_id)
        self._troubled = False

    # --- its life ----------------------------------------------------------------------------------------
    async def open(self) -> None:
        def executor(node_id: str) -> LeavingExecutor:
            self.executor = LeavingExecutor(node_id, self._folder / "processes")
            return self.executor

        overrides = Overrides(
            hardware=self.hardware, network=lambda own: MemoryNetwork(self._line, own.peer_id), executor=executor
        )
        self.daemon = await build(settings(self._folder, Rest(), runs_for_peers=True), overrides)
        await self.daemon.start()
        for channel in CHANNELS:
            self._peer.serve_gossip(AD_TOPIC + channel, self._on_gossip)
        await self._peer.start()
        await self._peer.ping(self.peer_id, 60)  # connects them

    async def close(self) -> None:
        await self.daemon.close()

    async def end_all(self) -> None:
        for job_id in await self.executor.list_jobs():
            await self.executor.remove(job_id)

    @property
    def peer_id(self) -> str:
        return self.daemon.services.signer.peer_id

    @property
    def log(self) -> DurableEventLog:
        return self.daemon.parts.event_log

    def _on_gossip(self, teller: str, body: bytes) -> None:
        self.heard.append(Heard(self._read(teller, body), self._troubled))

    def _read(self, teller: str, body: bytes) -> Advertisement:
        signed = msgspec.json.decode(body, type=SignedAdvertisement)
        found = msgspec.json.decode(signed.body, type=Advertisement)
        assert found.peer_id == teller
        assert LISTENER.verify(teller, signed.body.encode(), bytes.fromhex(signed.signature))
        return found

    # --- what is done to it -------------------------------------------------------------------------------
    async def do(self, name: str, *values: Any, **more: Any) -> None:
        """What it refuses is refused."""
        with suppress(Conflict, InvalidInput, Unavailable):
            await getattr(self, name)(*values, **more)

    async def onboard(self, cpu_mhz: int, memory_mb: int, channel: str, price: Decimal, *, available: bool) -> None:
        offer = Offer(
            cpu_mhz=cpu_mhz, memory_mb=memory_mb, channel=channel, ntx_price=price, available=available,
            payment_address=ADDRESS, blockchain="Cardano", hostname="provider",
        )  # fmt: skip
        await self.daemon.services.device.onboard(offer)

    async def offboard(self, *, forced: bool) -> None:
        await self.daemon.services.device.offboard(forced)

    async def change_resources(self, cpu_mhz: int, memory_mb: int, price: Decimal) -> None:
        await self.daemon.services.device.change_resources(cpu_mhz, memory_mb, price)

    async def set_available(self, *, available: bool) -> None:
        await self.daemon.services.device.set_available(available)

    async def engine(self, away: str) -> None:
        self.executor.away = away
        await self.daemon.services.compute_provider._engine.ping()

    async def gpus(self, *readings: GpuReading) -> None:
        self.hardware.gpus = readings
        await self.daemon.services.device.see_gpus()

    async def gpus_unseen(self, *readings: GpuReading) -> None:
        """They change, and nobody has looked yet."""
        self.hardware.gpus = readings

    async def ask(self, script: str, channel: str, price: str, tx_hash: str, constraints: dict[str, Any]) -> None:
        """As a peer; if it is taken, until it runs or is over."""
        wanted = request(script, tx_hash=tx_hash or new_id(), machine_type="gpu" if "gpus" in constraints else "cpu")
        wanted = msgspec.structs.replace(
            wanted, constraints=msgspec.structs.replace(wanted.constraints, **constraints)
        )  # fmt: skip
        job_id = new_id()
        self.channels[job_id] = channel
        message = DeploymentRequest(
            job_id=job_id, request=wanted, price=price, channel=channel, seal_key=token_hex(32)
        )  # fmt: skip
        body = await self._peer.request(self.peer_id, DEPLOYMENT_REQUEST, encode(message), 60)
        if msgspec.json.decode(body, type=DeploymentAnswer).accepted:
            awaited = {DeploymentState.ENDED} if script == "true" else {DeploymentState.ENDED, DeploymentState.RUNNING}
            await wait_for(lambda: self._deployment(job_id).state in awaited)

    async def stop(self, number: int) -> None:
        """One of those that run."""
        jobs = sorted(self.daemon.services.device.reservations._held)
        if jobs:
            job_id = jobs[number % len(jobs)]
            await self.daemon.services.compute_provider.stop(job_id, "operator", "enough", Fault.PROVIDER)
            await wait_for(lambda: self._deployment(job_id).ended)

    async def restart(self) -> None:
        away = self.executor.away
        await self.close()
        await self.open()
        await self.engine(away)

    @asynccontextmanager
    async def broken_disk(self) -> AsyncIterator[None]:
        """What is decided meanwhile can't be written, so it never was."""
        with broken_disk(self.log):
            self._troubled = True  # from the next write on; what is told until then is told as before
            await self.do("set_available", available=True)
            await self.do("set_available", available=False)
            await self.until_told()
            yield
        await self.log.try_to_write()
        await self.until_told()
        self._troubled = bool(self.log.trouble)

    def _deployment(self, job_id: str) -> Deployment:
        found = self.log.load(Deployment, job_id)
        assert found is not None
        return found

    async def until_told(self) -> None:
        """Until the peer, once it has heard anything, has heard how it is now."""
        await wait_for(
            lambda: not self.heard or self.heard[-1].advertisement.offering == self.daemon.services.device.offering()
        )

    # --- what it shows ------------------------------------------------------------------------------------
    async def shown(self) -> Shown:
        """All of it, at one position."""
        async with httpx.AsyncClient(
            timeout=120, base_url=f"http://127.0.0.1:{self.daemon.port}", verify=NO_TLS
        ) as client:
            while True:
                await wait_for(lambda: not self.log._aggregates._uncommitted)
                position = self.log.head
                capacity = await self._row(client)
                dump = (await _get(client, "/peers/dht/dump"))[0]
                gauges = await _gauges(client)
                asked = await self._asked()
                if position == self.log.head and not self.log._aggregates._uncommitted:
                    return Shown(position, capacity, dump, gauges, asked)

    async def rows(self) -> list[dict[str, Any] | None]:
        """The row of this device in /capacity as it was at each position, from 0."""
        async with httpx.AsyncClient(
            timeout=120, base_url=f"http://127.0.0.1:{self.daemon.port}", verify=NO_TLS
        ) as client:
            return [await self._row(client, as_of=position) for position in range(self.log.head + 1)]

    async def _row(self, client: httpx.AsyncClient, **query: Any) -> dict[str, Any] | None:
        rows: Sequence[dict[str, Any]] = (await _get(client, "/capacity", **query))["providers"]
        return next((row for row in rows if row["own"]), None)

    async def _asked(self) -> Advertisement | None:
        body = await self._peer.request(self.peer_id, AD_SNAPSHOT, encode(SnapshotRequest(own=True)), 60)
        found = msgspec.json.decode(body, type=Snapshot).advertisements
        return self._read(self.peer_id, encode(found[0])) if found else None


async def _get(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(API + path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _gauges(client: httpx.AsyncClient) -> dict[tuple[str, str], float]:
    text = (await client.get("/metrics")).text
    return {
        (sample.name, sample.labels.get("of", "")): sample.value
        for family in families(text)
        for sample in family.samples
        if sample.name.startswith(("dms_capacity_", "dms_device_"))
    }


@asynccontextmanager
async def station(folder: Path) -> AsyncIterator[Station]:
    made = Station(folder)
    await made.open()
    try:
        yield made
    finally:
        await made.end_all()
        await made.close()
