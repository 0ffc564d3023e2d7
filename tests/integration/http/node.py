"""A node for tests of the HTTP adapter: the real log, views, outputs and server on a free port, and a
network that is a few lines of memory, since nothing here is about peers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import websockets
from sanic import Sanic
from websockets.asyncio.client import ClientConnection

from dms.adapters.eventlog.archive import SQLiteEventArchive
from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.executors.process import ProcessExecutor
from dms.adapters.funding.trust import TrustCheck
from dms.adapters.http.connection import Connection
from dms.adapters.http.server import HttpServer, build_app
from dms.adapters.metadata.file import MetadataFile
from dms.adapters.metrics.figures import Figures
from dms.adapters.outputs.files import FileOutputStore
from dms.adapters.p2p.identity import Identity
from dms.adapters.views.sqlite import SQLiteViews
from dms.adapters.wallets.maker import new_wallet
from dms.application.chats import Chats
from dms.application.checkpoint_files import CheckpointFiles
from dms.application.checkpoint_keeper import CheckpointKeeper, CheckpointTimes
from dms.application.checkpoint_receiver import CheckpointReceiver
from dms.application.compute_provider import ComputeProvider
from dms.application.device import DeviceService
from dms.application.directory import Directory
from dms.application.erasures import Erasures
from dms.application.file_exchange import FileExchange
from dms.application.ml_images import MlImages
from dms.application.overview import Services
from dms.application.ports import (
    Executor,
    GossipHandler,
    Hardware,
    Heard,
    ImageStore,
    OutputLine,
    PeerInfo,
    RequestHandler,
    StreamHandler,
)
from dms.application.retention import Retention
from dms.application.seals import Seals
from dms.application.service_provider import ServiceProvider, Timeouts
from dms.application.transactions import Transactions
from dms.application.transfers import Transfers
from dms.application.user_files import Inbox, Outbox
from dms.config import Rest
from dms.domain.deployment import Fault
from dms.domain.device import Capacity
from dms.domain.event import new_id
from dms.domain.gpus import GpuReading
from dms.domain.job import FundStatus, Job
from dms.domain.request import Constraints, Params, ServiceRequest
from dms.errors import PeerUnreachable
from projections.base import Projection
from projections.capacity import Capacity as CapacityView
from projections.checkpoints import Checkpoints
from projections.device import DeviceView
from projections.erasures import Erasures as ErasuresView
from projections.jobs import Jobs
from projections.transactions import Transactions as TransactionsView
from projections.transfers import Transfers as TransfersView
from tests.fixtures.plain_http import NO_TLS

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

    async def read_gpus(self) -> tuple[GpuReading, ...]:
        return self.gpus


def now_us() -> int:
    return time.time_ns() // 1000


class Node:
    """ready: what the daemon would say of itself."""

    def __init__(
        self,
        services: Services,
        views: SQLiteViews,
        app: Sanic[Any, Any],
        port: int,
        executor: Executor,
        server: HttpServer,
    ) -> None:
        self.services, self.views, self.app, self.port, self.executor = services, views, app, port, executor
        self._server = server
        self.log, self.outputs = services.log, services.outputs
        self.url = f"http://127.0.0.1:{port}"

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

    async def _trigger(self, job_id: str, event: Any) -> None:
        job = self._load(job_id)
        job.trigger(event)
        await self.log.save(job)

    def _load(self, job_id: str) -> Job:
        job = self.log.load(Job, job_id)
        assert job is not None
        return job

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


async def taken_as_it_is(_archive: Path, _max_bytes: int) -> None:
    """Archives are another test's."""


@asynccontextmanager
async def running_node(
    folder: Path,
    rest: Rest | None = None,
    ready: Callable[[], str | None] | None = None,
    hardware: Hardware | None = None,
    images: ImageStore | None = None,
    *,
    executor: Callable[[str], Executor] | None = None,
    runs_for_peers: bool = False,
    debug_routes: bool = False,
    make_network: Callable[[str], LonelyNetwork] = LonelyNetwork,
) -> AsyncIterator[Node]:
    async with AsyncExitStack() as closing:
        event_log = SQLiteEventLog(folder / "events.db", now_us)
        await event_log.start()
        closing.push_async_callback(event_log.close)
        outputs = FileOutputStore(folder / "logs", 64, Seals(event_log))
        closing.push_async_callback(outputs.close)
        projections: list[Projection[Any]] = [
            Jobs(), CapacityView(), DeviceView(), TransfersView(), TransactionsView(), Checkpoints(),
            ErasuresView(),
        ]  # fmt: skip
        views = SQLiteViews(folder / "views.db", event_log, projections)
        closing.push_async_callback(views.close)
        await views.start()
        metadata_file = MetadataFile(event_log, views, folder)
        await metadata_file.start()
        closing.push_async_callback(metadata_file.close)
        identity = Identity.load_or_create(folder / "node.key")
        network = make_network(identity.peer_id)
        device = DeviceService(event_log, hardware or FixedHardware(), identity.peer_id)
        directory = Directory(event_log, device, network, identity, now_us)
        peer_id = identity.peer_id
        runner = executor(peer_id) if executor else ProcessExecutor(peer_id, folder / "processes")
        closing.push_async_callback(runner.close)
        exchange, files = FileExchange(network), CheckpointFiles(folder)
        files.make()
        keeper = CheckpointKeeper(event_log, runner, files, exchange, now_us, CheckpointTimes())
        receiver = CheckpointReceiver(
            event_log, network, files, exchange, taken_as_it_is, now_us, grace_seconds=60, max_bytes=2**20
        )
        compute = ComputeProvider(
            event_log,
            device,
            runner,
            outputs,
            identity,
            keeper,
            now_us,
            confined=False,
            run_unconfined_for_peers=runs_for_peers,
        )
        service = ServiceProvider(
            event_log, device, directory, network, outputs, identity, TrustCheck(), receiver, now_us, Timeouts(), ""
        )
        closing.push_async_callback(service.close)
        transfers = Transfers(
            event_log,
            network,
            exchange,
            Outbox([folder.parent], [folder], folder / "received_files"),
            Inbox(folder / "received_files"),
            now_us,
        )
        await transfers.start([])
        closing.push_async_callback(transfers.close)
        figures = Figures(
            event_log, views, network, None, [folder / "events.db"], ready or (lambda: None), lambda: device.hindrance
        )
        event_log.on_commit(figures.committed)
        await figures.start()
        closing.push_async_callback(figures.close)
        services = Services(
            log=event_log,
            outputs=outputs,
            network=network,
            signer=identity,
            device=device,
            directory=directory,
            service_provider=service,
            compute_provider=compute,
            checkpoints=receiver,
            transfers=transfers,
            chats=Chats(network, now_us),
            transactions=Transactions(event_log, identity, TrustCheck()),
            erasures=Erasures(event_log, views, outputs, files, Inbox(folder / "received_files"), folder),
            log_token=lambda job_id: f"token-of-{job_id}",
            metadata_path=metadata_file.path,
            database_path=folder / "events.db",
            new_wallet=new_wallet,
            ready=ready or (lambda: None),
            phase=ready or (lambda: None),
            now=now_us,
            executor_name=runner.name,
            metrics=figures,
            retention=Retention(SQLiteEventArchive(event_log, identity), 0, now_us),
            ml_images=MlImages(device, runner, images, identity.peer_id),
        )
        closing.push_async_callback(services.erasures.close)
        app = build_app(services, views, rest or Rest(), debug_routes=debug_routes)
        server = HttpServer(app, "127.0.0.1", 0)
        port = await server.start()
        closing.push_async_callback(server.close)
        yield Node(services, views, app, port, runner, server)


async def frames(
    socket: ClientConnection, until: Callable[[dict[str, Any]], bool], seconds: float = 10
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
