"""Two whole daemons that know each other over a network in memory: one asks for jobs, the other runs them as child
processes. What became of a command is read from both."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec

from dms.adapters.funding.trust import TrustCheck
from dms.adapters.p2p.identity import Identity
from dms.application.files.user_files import Reach
from dms.application.network.messages import DEPLOYMENT_REQUEST, DeploymentAnswer, DeploymentRequest
from dms.application.ports.executor import SandboxTrial
from dms.application.ports.funding import PaymentClaim, Repayment
from dms.bootstrap import build
from dms.config import Files, General, P2p, Rest, Settings, Strangers
from dms.config import Job as JobSettings
from dms.daemon import Daemon, Server
from dms.domain.deployment import Deployment, DeploymentState
from dms.domain.device import Offer
from dms.domain.directory import Offering, Provider
from dms.domain.event import Recorded, new_id
from dms.domain.hold import Hold
from dms.domain.job import FundStatus, Job, JobState
from dms.domain.sandbox import not_started
from dms.errors import ExecutorUnavailable
from dms.wiring.overrides import Overrides
from tests.fixtures.histories import request
from tests.fixtures.memory_network import MemoryLine, MemoryNetwork
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import ADDRESS, FixedHardware

OFFER = Offer(
    cpu_mhz=6000, memory_mb=12_000, channel="nunet-test", payment_address=ADDRESS, blockchain="Cardano",
    ntx_price=Decimal("0.0001"), hostname="provider",
)  # fmt: skip
ENDLESS = "sleep 3600"
PATIENCE_SECONDS = 60.0  # until all has come of a command; only a lost effect takes it
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_LONG_HEX = re.compile(r"[0-9a-f]{32,}")
MEASURE = "<measure>"
_LARGEST_COUNT = 10**9  # larger whole numbers are times in microseconds
Seen = dict[str, Any]


class Repaying(TrustCheck):
    """Believes every payment, and knows of a repayment of each."""

    async def repayments(self, claim: PaymentClaim, owed: str, after_block: int) -> Sequence[Repayment]:
        return [Repayment(tx_hash=f"repaid-{claim.tx_hash}")]


class World:
    def __init__(self, folder: Path, requester: Daemon, provider: Daemon, gpus: FixedHardware) -> None:
        self.folder, self.shared = folder, folder / "shared"
        self._requester, self._provider, self.hardware = requester, provider, gpus
        self._recorded: dict[str, list[Recorded]] = {}
        self.requester, self.provider = requester.services, provider.services
        self.requester_id, self.provider_id = self.requester.signer.peer_id, self.provider.signer.peer_id
        self.key = ""  # of the job or the transfer that the command is about
        self.tx_hash, self._seal_key = token_hex(32), token_hex(32)

    # --- what there is --------------------------------------------------------------------------------
    @property
    def daemons(self) -> dict[str, Daemon]:
        return {"requester": self._requester, "provider": self._provider}

    def jobs(self) -> list[Job]:
        names = {one.originator_id for one in self._recorded["requester"]}
        keys = sorted(name.partition("-")[2] for name in names if name.startswith(f"{Job.KIND}-"))
        return [job for key in keys if (job := self.requester.log.load(Job, key)) is not None]

    def job_state(self) -> JobState:
        job = self.requester.log.load(Job, self.key)
        return JobState.NEW if job is None else job.state

    def deployment_state(self) -> DeploymentState:
        deployment = self.provider.log.load(Deployment, self.key)
        return DeploymentState.NEW if deployment is None else deployment.state

    def topics(self, side: str) -> list[str]:
        """Of what was recorded there until `written` last returned."""
        return [one.topic for one in self._recorded[side]]

    def containers_left(self) -> bool:
        """Whether the provider still has a process or its folder."""
        return any((self.folder / "provider" / "processes").glob("*/"))

    def told(self, of: str = "provider") -> Offering | None:
        """What one side has heard that the other offers."""
        teller = self.daemons[of].services
        listener = self.requester if teller is self.provider else self.provider
        heard = {ad.peer_id: ad.offering for ad in listener.directory.advertisements()}
        return heard.get(teller.signer.peer_id)

    def is_told(self, of: str = "provider") -> bool:
        """Whether that is how it is, and on record."""
        offering = self.daemons[of].services.device.offering()
        listener = self.requester if of == "provider" else self.provider
        known = listener.log.load(Provider, self.daemons[of].services.signer.peer_id)
        return self.told(of) == offering and known is not None and known.offering == offering

    def is_known(self) -> bool:
        """Whether the requester counts on the provider."""
        known, told = self.requester.log.load(Provider, self.provider_id), self.told()
        return (known is not None and known.offering is not None) or (told is not None and told.onboarded)

    # --- what is done -----------------------------------------------------------------------------------
    async def quote(self, script: str = "true") -> None:
        quote = await self.requester.service_provider.request_service(request(script, cpu=500, ram=64))
        self.key = quote.job_id

    async def pay(self) -> str:
        status = FundStatus(transaction_type="fund", transaction_status="success", tx_hash=self.tx_hash)
        return await self.requester.service_provider.report_fund_status(status, self.key)

    async def run(self, script: str, until: JobState) -> None:
        """A job that was asked for, paid, and is followed."""
        await self.quote(script)
        await self.pay()
        await wait_for(lambda: self.job_state() is until)

    def deployment_request(self, script: str = "true") -> bytes:
        """The same each time."""
        wanted = request(script, cpu=500, ram=64, tx_hash=self.tx_hash)
        message = DeploymentRequest(job_id=self.key, request=wanted, price="1", seal_key=self._seal_key)
        return msgspec.json.encode(message)

    async def ask(self, body: bytes) -> DeploymentAnswer:
        """As a peer asks the provider, by what serves that: so each of its waits can be cut."""
        answer = await self._network.served(DEPLOYMENT_REQUEST)(self.requester_id, body)
        return msgspec.json.decode(answer, type=DeploymentAnswer)

    async def send(self, protocol: str, message: Any) -> Any:
        """The same, of any protocol."""
        body = msgspec.json.encode(message)
        return msgspec.json.decode(await self._network.served(protocol)(self.requester_id, body))

    @property
    def _network(self) -> MemoryNetwork:
        host = self._provider.parts.host
        assert isinstance(host, MemoryNetwork)
        return host

    async def offer_file(self) -> str:
        self.key = (await self.offer_anew()).key
        return self.key

    async def offer_anew(self) -> Any:
        path = self.shared / "letter.txt"
        path.write_text("hello")
        return await self.requester.transfers.offer(self.provider_id, path, Reach.DAEMONS)

    def weaken_sandbox(self) -> None:
        """As a test container would find it from now on."""

        async def tried() -> SandboxTrial:
            await asyncio.sleep(0)
            return SandboxTrial(engine="Docker 20.10.24", rows=not_started("no runtime"))

        setattr(self._provider.parts.executor, "try_sandbox", tried)  # noqa: B010  # of this object alone

    def lose_engine(self) -> None:
        """The provider's; it does not answer from now on."""

        async def away() -> None:
            raise ExecutorUnavailable("it is not there")

        setattr(self._provider.parts.executor, "check", away)  # noqa: B010  # of this object alone

    def find_engine(self) -> None:
        delattr(self._provider.parts.executor, "check")

    # --- what came of it ----------------------------------------------------------------------------------
    async def containers(self) -> int:
        return len(await self._provider.parts.executor.list_jobs())

    async def settle(self, done: Callable[[World], bool]) -> None:
        """Until that is so, and on the disks."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (await self.written() and done(self)):
                await asyncio.sleep(0.01)
        await self.written()

    async def written(self) -> bool:
        """Once what is decided is on the disks."""
        for name, daemon in self.daemons.items():
            log = daemon.parts.event_log
            await wait_for(lambda log=log: not log._aggregates._uncommitted)  # type: ignore[misc]
            self._recorded[name] = list(await log.read(0, 10_000))
        return True

    async def seen(self) -> Seen:
        """Of both sides, as `written` left them: the events, what is held, what is offered. Without ids, times and
        measures."""
        found: Seen = {"containers": await self.containers()}
        for name, daemon in self.daemons.items():
            device = daemon.services.device
            found[name] = self._streams(name)
            found[f"{name} holds"] = msgspec.to_builtins(device.reservations.total)
            found[f"{name} offers"] = self.plain(msgspec.to_builtins(device.offering()))
            waiting = daemon.services.transfers.waiting()
            found[f"{name} has files waiting"] = len(waiting)
        return found

    def _streams(self, side: str) -> list[Any]:
        """The events of each aggregate. Of providers only who is known: how often each one tells of itself varies.
        Nothing of holds: each ends by itself, whatever becomes of its job."""
        streams: dict[str, list[Any]] = {}
        for recorded in self._recorded[side]:
            kind = recorded.originator_id.partition("-")[0]
            if kind not in (Provider.KIND, Hold.KIND):
                body = self.plain(msgspec.to_builtins(recorded.event))
                streams.setdefault(recorded.originator_id, []).append((recorded.topic, body))
        log = self.daemons[side].services.log
        known = [log.load(Provider, peer_id) for peer_id in (self.requester_id, self.provider_id)]
        return [*sorted(streams.values(), key=repr), [one is not None and one.offering is not None for one in known]]

    def plain(self, value: Any) -> Any:
        if isinstance(value, dict):
            if value.keys() >= {"signature", "topic", "data"}:  # a provider's record: what it says is in its own log
                return value["topic"]
            return {
                self.plain(key): MEASURE if str(key).endswith("_us") else self.plain(one) for key, one in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.plain(one) for one in value]
        if isinstance(value, float) or (isinstance(value, int) and value > _LARGEST_COUNT):
            return MEASURE
        return self._nameless(value) if isinstance(value, str) else value

    def _nameless(self, text: str) -> str:
        names = {self.requester_id: "<requester>", self.provider_id: "<provider>", str(self.folder): "<folder>"}
        for name, role in names.items():
            text = text.replace(name, role)
        return _LONG_HEX.sub("<hex>", _ID.sub("<id>", text))


def _settings(folder: Path, shared: Path, window_seconds: float) -> Settings:
    return Settings(
        general=General(data_dir=folder, work_dir=folder),
        rest=Rest(port=0),
        p2p=P2p(mdns=False),
        job=JobSettings(executor="process", allow_process_for_peers=True, funding_window=window_seconds),
        files=Files(send_folders=(str(shared),)),
        strangers=Strangers(trust_payments=True, max_share=100),  # tests ask by hand, as peers that are not connected
    )


async def _daemon(
    folder: Path, shared: Path, line: MemoryLine, hardware: FixedHardware, window: float, server: Server | None
) -> Daemon:
    def network(identity: Identity) -> MemoryNetwork:
        return MemoryNetwork(line, identity.peer_id)

    daemon = await build(
        _settings(folder, shared, window),
        Overrides(hardware=hardware, network=network, funding=Repaying(), server=server),
    )
    await daemon.start()
    return daemon


@asynccontextmanager
async def world(folder: Path, window_seconds: float = 600.0, server: Server | None = None) -> AsyncIterator[World]:
    """Both daemons started; the provider is onboarded, and the requester knows it. server: in place of their own."""
    line, hardware, shared = MemoryLine(), FixedHardware(), folder / "shared"
    shared.mkdir(parents=True, exist_ok=True)
    provider = await _daemon(folder / "provider", shared, line, hardware, window_seconds, server)
    try:
        requester = await _daemon(folder / "requester", shared, line, FixedHardware(), window_seconds, server)
        try:
            made = World(folder, requester, provider, hardware)
            await requester.parts.host.ping(made.provider_id, 60)  # connects them
            await made.provider.device.onboard(OFFER)
            await made.settle(World.is_told)
            made.key = new_id()
            yield made
        finally:
            await requester.close()
    finally:
        for job_id in await provider.parts.executor.list_jobs():
            await provider.parts.executor.remove(job_id)
        await provider.close()
