"""A node for tests of the HTTP adapter: the real log, views, outputs and server on a free port, and a
network that is a few lines of memory, since nothing here is about peers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import websockets
from websockets.asyncio.client import ClientConnection

from dms.adapters.http.connection import Connection
from dms.adapters.http.server import HttpServer
from dms.application.ports.executor import Executor
from dms.application.ports.machine import Hardware, Usage
from dms.application.ports.outputs import OutputLine
from dms.application.ports.peers import GossipHandler, Heard, PeerInfo, RequestHandler, StreamHandler
from dms.bootstrap import build
from dms.clock import machine_clock
from dms.config import Funding, General, P2p, Rest, Settings, Strangers
from dms.config import Job as JobSettings
from dms.daemon import Daemon
from dms.domain.deployment import Fault
from dms.domain.device import Capacity
from dms.domain.erasure import Erasure
from dms.domain.event import new_id
from dms.domain.gpus import GpuReading
from dms.domain.hold import Hold
from dms.domain.job import FundStatus, Job
from dms.domain.payment import Payment
from dms.domain.request import Constraints, Params, ServiceRequest
from dms.domain.resources import Resources
from dms.domain.run_time import Instant
from dms.errors import PeerUnreachable
from dms.wiring.overrides import Overrides
from tests.fixtures.plain_http import NO_TLS
from tests.fixtures.waiting import wait_for

ADDRESS = "addr_test1vzpwq95z3xyum8vqndgdd9mdnmafh3djcxnc6jemlgdmswcve6tkw"  # CIP-19's test vector
PROVIDER = "12D3KooWProvider"
REQUEST = ServiceRequest(
    service_type="ml-training-cpu",
    params=Params(image_id="test/image"),
    constraints=Constraints(complexity="Low", cpu=500, ram=64, time=5),
    max_ntx=100,
)
SERVICE_BODY: dict[str, Any] = {
    "address_user": ADDRESS,
    "max_ntx": 10,
    "blockchain": "Cardano",
    "service_type": "ml-training-cpu",
    "params": {"machine_type": "cpu", "image_id": "test/image", "model_url": "", "packages": []},
    "constraints": {"CPU": 500, "RAM": 64, "VRAM": 2000, "power": 170, "complexity": "Low", "time": 1},
}


class LonelyNetwork:
    """A host with no peers: who is dialled is not there."""

    def __init__(self, peer_id: str) -> None:
        self.peer_id = peer_id

    @property
    def listen_addresses(self) -> Sequence[str]:
        return [f"/ip4/127.0.0.1/tcp/9000/p2p/{self.peer_id}"]

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def serve_request(self, protocol: str, handler: RequestHandler) -> None: ...

    def serve_stream(self, protocol: str, handler: StreamHandler, *, raw: bool = False) -> None: ...

    def serve_gossip(self, topic: str, handler: GossipHandler) -> None: ...

    async def publish(self, topic: str, body: bytes) -> None: ...

    async def request(self, peer_id: str, protocol: str, body: bytes, timeout_seconds: float) -> bytes:
        raise PeerUnreachable(f"{peer_id} is not there")

    async def stream(self, peer_id: str, protocol: str, body: bytes) -> AsyncGenerator[bytes, None]:
        raise PeerUnreachable(f"{peer_id} is not there")
        yield b""

    async def ping(self, peer_id: str, timeout_seconds: float) -> float:
        raise PeerUnreachable(f"{peer_id} is not there")

    def heard(self, peer_id: str) -> Heard | None:
        return None

    def refused_connections(self) -> int:
        return 0

    def is_local(self, peer_id: str) -> bool:
        return False

    def add_addresses(self, peer_id: str, addresses: Sequence[str]) -> None: ...

    def on_peer(self, callback: Callable[[str, bool], None]) -> None: ...

    def peers(self) -> Sequence[PeerInfo]:
        return []


class FixedHardware:
    """gpus: as the driver would tell them; tests change them."""

    def __init__(self, *gpus: GpuReading) -> None:
        self.gpus = gpus

    def capacity(self) -> Capacity:
        return Capacity(cpu_mhz=8000, memory_mb=16_000, cores=4)

    def usage(self) -> Usage:
        return Usage(cpu_seconds=time.monotonic(), memory_mb=4_000, measured_at_seconds=time.monotonic())

    async def read_gpus(self) -> tuple[GpuReading, ...]:
        return self.gpus


def now_us() -> int:
    return time.time_ns() // 1000


class Node:
    """A daemon, and what tests do with it."""

    def __init__(self, daemon: Daemon) -> None:
        self._reactors = daemon.parts.reactors
        self.services, self.port, self.readiness = daemon.services, daemon.port, daemon.parts.readiness
        self.views, self.executor, server = daemon.parts.views, daemon.parts.executor, daemon.parts.server
        assert isinstance(server, HttpServer)
        self._server = server
        self.log, self.outputs, self.app = self.services.log, self.services.outputs.store, self._server.app
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> list[Connection]:
        """As the server has them."""
        return list(self._server.connections)

    # --- a job's life, without a provider ----------------------------------------------------------
    async def job(self) -> str:
        """A new job that awaits its funding."""
        job = Job(new_id())
        job.request_service(REQUEST, PROVIDER, "0.1", now_us() + 600_000_000, (), 0)
        await self.log.save(job)
        return job.key

    async def hold_and_use_payment(self, job_id: str) -> None:
        """Events that belong to the job, of what is not the job."""
        hold, payment = Hold(job_id), Payment("ab")
        hold.place("peer", Resources(), (), now_us(), gpus_shared=False)
        payment.use(job_id)
        await self.log.save(hold, payment)

    async def submit(self, job_id: str, tx_hash: str = "ab01") -> None:
        job = self._load(job_id)
        job.report_fund_status(FundStatus(transaction_type="fund", transaction_status="success", tx_hash=tx_hash))
        job.accept_funding("trust")
        await self.log.save(job)

    async def respond(self, job_id: str) -> None:
        await self._trigger(job_id, Job.DeploymentResponded(success=True, content=""))

    async def print_lines(self, job_id: str, *lines: tuple[str, str]) -> None:
        """(stream, text) each."""
        stamped = [OutputLine(stream, time.time_ns(), text) for stream, text in lines]
        await self.outputs.append(job_id, stamped)

    async def complete(self, job_id: str) -> None:
        sealed = await self.outputs.seal(job_id)
        job = self._load(job_id)
        job.trigger(Job.LogSealed(lines=sealed.lines, sha256=sealed.sha256))
        job.trigger(Job.Completed(duration_seconds=1.0))
        await self.log.save(job)

    async def fail(self, job_id: str, reason: str) -> None:
        job = self._load(job_id)
        job.fail(reason, Fault.JOB, 3)
        await self.log.save(job)

    async def erase(self, job_id: str) -> None:
        """Returns once its personal data are gone."""
        erasure = Erasure(new_id())
        erasure.request((job_id,))
        await self.log.save(erasure)

        def is_done() -> bool:
            found = self.log.load(Erasure, erasure.key)
            return found is not None and found.completed

        await wait_for(is_done)

    async def _trigger(self, job_id: str, event: Any) -> None:
        job = self._load(job_id)
        job.trigger(event)
        await self.log.save(job)

    def _load(self, job_id: str) -> Job:
        job = self.log.load(Job, job_id)
        assert job is not None
        return job

    async def follow_jobs(self, *job_ids: str) -> None:
        """From now on the requester's effects follow the log."""
        service = self.services.service_provider
        service.take_up(job_ids)
        await self._reactors.start(service.reactors, lambda _: job_ids)

    # --- clients -----------------------------------------------------------------------------------
    def client(self, **more: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=120, verify=NO_TLS, **more)

    def connect(self, query: str = "", *, v2: bool = False, path: str = "/api/v1/run/deploy", **more: Any) -> Any:
        return websockets.connect(
            f"ws://127.0.0.1:{self.port}{path}{query}",
            subprotocols=[websockets.Subprotocol("dms.actions.v2")] if v2 else None,
            compression=None,
            max_size=None,
            **more,
        )


def settings(
    folder: Path, rest: Rest, *, runs_for_peers: bool = False, funding: Funding | None = None, **job: Any
) -> Settings:
    """All in one folder, with bare processes. job: settings of that section."""
    return Settings(
        general=General(data_dir=folder, work_dir=folder),
        rest=msgspec.structs.replace(rest, port=0),
        p2p=P2p(mdns=False),
        job=JobSettings(executor="process", allow_process_for_peers=runs_for_peers, **job),
        funding=funding or Funding(),
        strangers=Strangers(
            trust_payments=True, max_share=100, max_jobs=0
        ),  # tests ask for jobs by hand, as peers that are not connected
    )


@asynccontextmanager
async def running_node(
    folder: Path,
    rest: Rest | None = None,
    hardware: Hardware | None = None,
    *,
    executor: Callable[[str], Executor] | None = None,
    runs_for_peers: bool = False,
    funding: Funding | None = None,
    make_network: Callable[[str], LonelyNetwork] = LonelyNetwork,
    clock: Callable[[], Instant] = machine_clock,
    now: Callable[[], int] = now_us,
    **job: Any,
) -> AsyncIterator[Node]:
    """job: settings of that section."""
    overrides = Overrides(
        now=now,
        clock=clock,
        hardware=hardware or FixedHardware(),
        network=lambda identity: make_network(identity.peer_id),
        executor=executor,
    )
    wanted = settings(folder, rest or Rest(), runs_for_peers=runs_for_peers, funding=funding, **job)
    daemon = await build(wanted, overrides)
    await daemon.start(take_part=False)  # jobs are written by tests, and nothing else acts on them
    try:
        await daemon.parts.reactors.start(daemon.parts.file_reactors, lambda _: [])
        yield Node(daemon)
    finally:
        await daemon.parts.reactors.close()
        await daemon.close()


async def frames(
    socket: ClientConnection, until: Callable[[dict[str, Any]], bool], seconds: float = 120
) -> list[dict[str, Any]]:
    """All frames up to the first that fits."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(seconds):
        while True:
            found.append(msgspec.json.decode(await socket.recv()))
            if until(found[-1]):
                return found


def is_last(frame: dict[str, Any]) -> bool:
    return frame["action"] in ("job-completed", "job-failed")
