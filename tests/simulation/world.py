"""A small network in one thread and no time: a DMS that asks for jobs, DMSs that run them, a client, and what goes
wrong between them. The daemons are wired by `dms.bootstrap.build`, as for users; what is around them is made up."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from dms.adapters.eventlog.envelope import Draft
from dms.adapters.p2p.identity import Identity
from dms.application.network.messages import DEPLOYMENT_REQUEST, DeploymentAnswer, DeploymentRequest
from dms.application.ports.funding import FundingCheck, FundingState, FundingVerdict, PaymentClaim, Repayment
from dms.application.ports.machine import Usage
from dms.bootstrap import build
from dms.config import Funding, General, P2p, Settings
from dms.config import Job as JobSettings
from dms.daemon import Daemon
from dms.domain.deployment import Deployment
from dms.domain.device import Capacity, Offer
from dms.domain.gpus import GpuReading
from dms.domain.payment import Payment
from dms.domain.run_time import Instant
from dms.errors import DmsError, Unavailable
from dms.wiring.overrides import Overrides
from tests.fixtures.no_server import NoServer
from tests.simulation.disk import Disk, SimulatedRecorder
from tests.simulation.engine import Engine, SimulatedExecutor
from tests.simulation.invariants import Durable, Violation, check_capacity
from tests.simulation.loop import LIFE, Life, SimulatedLoop
from tests.simulation.network import SimulatedNetwork, Wires

EPOCH_US = 1_790_000_000_000_000  # Unix
REQUESTER, PROVIDERS = "requester", ("alice", "bob")
ADDRESS = "addr_test1vzpwq95z3xyum8vqndgdd9mdnmafh3djcxnc6jemlgdmswcve6tkw"  # CIP-19's test vector
OFFER = Offer(
    cpu_mhz=6000, memory_mb=12_000, channel="nunet-test", payment_address=ADDRESS, blockchain="Cardano",
    ntx_price=Decimal("0.0001"), hostname="provider",
)  # fmt: skip
STOP_SECONDS = 90.0
LASTING_SECONDS = 70.0  # of the longest job, whose limit is a minute


class Hardware:
    def __init__(self, now: Callable[[], float]) -> None:
        """now: in seconds."""
        self._now = now

    def capacity(self) -> Capacity:
        return Capacity(cpu_mhz=8000, memory_mb=16_000, cores=4)

    def usage(self) -> Usage:
        return Usage(cpu_seconds=self._now(), memory_mb=4_000, measured_at_seconds=self._now())

    async def read_gpus(self) -> tuple[GpuReading, ...]:
        return ()


class Chain:
    """A blockchain that shows a payment some time after it was made, and is away at times. Implements FundingCheck."""

    name, carries, blockchain = "ledger", True, ""

    def __init__(self, random: Random) -> None:
        self._random, self.away = random, False
        self._seen_at: dict[str, float] = {}

    def pay(self, tx_hash: str, seen_after_seconds: float) -> None:
        self._seen_at.setdefault(tx_hash, asyncio.get_running_loop().time() + seen_after_seconds)

    async def check(self, claim: PaymentClaim) -> FundingVerdict:
        await asyncio.sleep(self._random.random() * 0.2)
        if self.away:
            raise Unavailable("the chain's node does not answer")
        seen_at = self._seen_at.get(claim.tx_hash)
        if seen_at is None or seen_at > asyncio.get_running_loop().time():
            return FundingVerdict(state=FundingState.PENDING, reason="not seen yet")
        return FundingVerdict(state=FundingState.ACCEPTED, payer=ADDRESS, units="1", block=1)

    async def repayments(self, claim: PaymentClaim, owed: str, after_block: int) -> Sequence[Repayment]:
        return ()

    async def close(self) -> None: ...


class Node:
    """A machine with a DMS, which is killed and started again. daemon: while it takes part."""

    def __init__(self, world: World, name: str, folder: Path) -> None:
        self.name, self.folder, self._world = name, folder, world
        self.disk = Disk(world.stream(f"disk of {name}"), lambda drafts: world.committed(name, drafts))
        self.engine = Engine(world.stream(f"engine of {name}"), world.now_us, self._engine_did)
        self.daemon: Daemon | None = None
        self.peer_id = ""
        self.life = Life(name)
        self._recorder: SimulatedRecorder | None = None
        self._built: Daemon | None = None
        self._starting: asyncio.Task[None] | None = None
        self.died: asyncio.Future[None] | None = None
        self._stopping = False

    @property
    def is_down(self) -> bool:
        return not self._stopping and (self._starting is None or (self._starting.done() and self.daemon is None))

    def start(self) -> None:
        self.life, self.died = Life(self.name), asyncio.get_running_loop().create_future()
        self._starting = self.run(self._start())

    def run(self, work: Any) -> asyncio.Task[Any]:
        """In this life, which ends with it."""
        context = copy_context()
        context.run(LIFE.set, self.life)
        return asyncio.get_running_loop().create_task(work, context=context)

    def kill(self) -> None:
        self.life.alive = False
        if self.died is not None and not self.died.done() and not self.died.get_loop().is_closed():
            self.died.set_result(None)
        self.daemon = self._starting = None
        self._stopping = False
        self._world.wires.remove(self.peer_id)
        self._let_go()

    async def stop(self) -> None:
        """As it is told to; who looks after it kills it when that takes too long."""
        daemon, self.daemon, self._stopping = self.daemon, None, True
        if daemon is not None and self.died is not None:
            closing = self.run(daemon.close())
            await asyncio.wait([closing, self.died], timeout=STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if self._stopping:
            self.kill()

    def check(self) -> None:
        if self.daemon is not None:
            check_capacity(self.name, self.daemon.services.device.reservations, OFFER)

    async def _start(self) -> None:
        try:
            self._built = await build(self._world.settings_of(self), self._overrides())
            self._world.built(self, self._built)
            await self._built.start()
        except (DmsError, OSError, sqlite3.Error) as error:
            self._world.trace(f"{self.name} does not start: {error}")
            self._let_go()
            self._world.wires.remove(self.peer_id)
            self.life.alive = False
        else:
            self.daemon = self._built

    def _let_go(self) -> None:
        """Of the files that the operating system closes for who is killed."""
        if self._built is not None:
            with suppress(sqlite3.Error):
                self._built.parts.views._file.close()
        if self._recorder is not None:
            self._recorder.kill()
        self._built = self._recorder = None

    def _overrides(self) -> Overrides:
        def network(identity: Identity) -> SimulatedNetwork:
            self.peer_id = identity.peer_id
            self._world.names[identity.peer_id] = self.name
            return SimulatedNetwork(self._world.wires, identity.peer_id)

        def recorder(database: Path) -> SimulatedRecorder:
            self._recorder = SimulatedRecorder(database, self.disk)
            return self._recorder

        return Overrides(
            now=self._world.now_us,
            clock=lambda: Instant("boot", self._world.now_us() - EPOCH_US, self._world.now_us()),
            hardware=self._world.hardware_of(self),
            network=network,
            executor=lambda _: self._world.executor_of(self),
            funding=self._world.funding_of(self),
            recorder=recorder,
            server=NoServer(),
        )

    def _engine_did(self, what: str, job_id: str) -> None:
        self._world.trace(f"{self.name}: engine: {what} {job_id}")
        if what == "start":
            self._world.hold(self._world.durable.started, self.name, job_id)
        elif what == "create":
            self._world.hold(self._world.durable.created, self.name, job_id)


class World:
    """seed: all that is drawn follows from it. Each part draws from a stream of its own, so that a new draw in one does
    not move the others."""

    def __init__(
        self, seed: int, folder: Path, loop: SimulatedLoop, tell: Callable[[str], None], providers: int = 0
    ) -> None:
        """providers: how many; 0 for as many as the seed says."""
        self.seed, self._folder, self._loop, self._tell = seed, folder, loop, tell
        self.names: dict[str, str] = {}  # peer id -> node
        self.durable = Durable(OFFER)
        self.wires = Wires(self.stream("wires"))
        self.wires.on_answer = self._answered
        self.chain = Chain(self.stream("chain"))
        self.providers = PROVIDERS[: providers or self.stream("size").choice((1, 1, 2))]
        self.nodes = {name: Node(self, name, folder / name) for name in (REQUESTER, *self.providers)}
        self.on_commit: Callable[[str], None] = lambda node: None
        self.met: dict[str, int] = self.wires.met
        self.digest = sha256()
        self._payments: dict[str, int] = {}
        self._failure: BaseException | None = None
        self.cuts = 0.0  # how often the client gives up before it is answered
        self.context = copy_context()  # of no life

    def stream(self, name: str) -> Random:
        return Random(f"{self.seed} {name}")

    # --- what nodes are made of -------------------------------------------------------------------------
    def settings_of(self, node: Node) -> Settings:
        return Settings(
            general=General(data_dir=node.folder, work_dir=node.folder),
            p2p=P2p(mdns=False),
            job=JobSettings(
                executor="docker", funding_window=40, answer_timeout=10, provider_grace=60, cleanup_interval=0.01
            ),
            # Nobody asks that node: the chain is simulated, too.
            funding=Funding(check="ledger", rpc_url="http://127.0.0.1:9/", chain_id=1, timeout_seconds=60),
        )

    def hardware_of(self, node: Node) -> Hardware:
        return Hardware(lambda: self.now_us() / 1_000_000)

    def executor_of(self, node: Node) -> SimulatedExecutor:
        return SimulatedExecutor(node.engine, LASTING_SECONDS)

    def funding_of(self, node: Node) -> FundingCheck:
        return self.chain

    def built(self, node: Node, daemon: Daemon) -> None:
        """Before its start."""

    # --- what happens -----------------------------------------------------------------------------------

    def now_us(self) -> int:
        return EPOCH_US + int(self._loop.now_seconds * 1_000_000)

    @property
    def requester(self) -> Node:
        return self.nodes[REQUESTER]

    def thread_seconds(self) -> float:
        """How long what is given to a thread just now seems to take."""
        life = LIFE.get()
        return 0.0 if life is None else self.nodes[life.name].disk.thread_seconds()

    def trace(self, text: str) -> None:
        line = f"{self._loop.now_seconds:10.3f}  {text.replace(str(self._folder), '')}"
        self.digest.update(line.encode())
        self._tell(line)

    def committed(self, node: str, drafts: Sequence[Draft]) -> None:
        for draft in drafts:
            self.trace(f"{node}: {draft.topic} {self._name(draft.originator_id)} {draft.originator_version}")
        self.hold(self.durable.committed, node, drafts)
        self.hold(self.nodes[node].check)
        self.on_commit(node)

    def _name(self, stream: str) -> str:
        """Of an aggregate, always the same: names of payments are made with keys that are not."""
        kind, _, key = stream.partition("-")
        return f"{self._payments.setdefault(key, len(self._payments) + 1)}" if kind == Payment.KIND else key

    def hold(self, check: Callable[..., None], *args: Any) -> None:
        """From within the program, which would take the error for its own: it is raised after the step."""
        try:
            check(*args)
        except Violation as error:
            self.fail(error)

    def met_fault(self, what: str) -> None:
        self.met[what] = self.met.get(what, 0) + 1
        self.trace(f"fault: {what}")

    def fail(self, error: BaseException) -> None:
        """From where an error would be taken for the program's."""
        self._failure = self._failure or error
        self._loop.stop()

    @property
    def failure(self) -> BaseException | None:
        return self._failure

    def _answered(self, peer_id: str, protocol: str, body: bytes, answer: bytes) -> None:
        if protocol == DEPLOYMENT_REQUEST:
            told = msgspec.json.decode(answer, type=DeploymentAnswer)
            job_id = msgspec.json.decode(body, type=DeploymentRequest).job_id
            topic = Deployment.Requested if told.pending or told.accepted else Deployment.Rejected
            self.hold(self.durable.acknowledged, self.names[peer_id], f"{Deployment.KIND}-{job_id}", topic.TOPIC)
