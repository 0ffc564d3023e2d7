"""Builds every object of the daemon once. Wiring only: nothing is started or decided here.

An adapter is given its section of the settings; what is worked out from several goes into a struct of its own.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from dms.adapters.eventlog.archive_writer import SegmentArchive
from dms.adapters.eventlog.durable_log import DurableEventLog
from dms.adapters.eventlog.recorder import LogRecorder
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.adapters.eventlog.watch import LogWatch
from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.adapters.executors.gateways import GatewaySettings, job_range
from dms.adapters.executors.images import ImagePolicy
from dms.adapters.executors.process import ProcessExecutor, ProcessLimits
from dms.adapters.executors.profile import ContainerLimits
from dms.adapters.executors.workspace_archive import check_archive, open_archive
from dms.adapters.funding.ledger import LedgerCheck
from dms.adapters.funding.trust import TrustCheck
from dms.adapters.hardware.nvidia import NvidiaGpus
from dms.adapters.hardware.probe import HardwareProbe
from dms.adapters.hardware.probed import ProbedHardware
from dms.adapters.heads.file import HeadFile
from dms.adapters.http.server import HttpServer, build_app
from dms.adapters.metadata.file import MetadataFile
from dms.adapters.metrics.figures import Figures
from dms.adapters.outputs.files import FileOutputStore
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from dms.adapters.service.machine import Machine
from dms.adapters.views.sqlite import SQLiteViews
from dms.adapters.wallets.maker import new_wallet
from dms.adapters.web.files import WebFiles
from dms.application.access.tokens import Tokens
from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.checkpoints.checkpoint_keeper import CheckpointKeeper, CheckpointTimes
from dms.application.checkpoints.checkpoint_receiver import CheckpointReceiver
from dms.application.deployments.cleanup import Cleaner
from dms.application.deployments.compute_provider import ComputeProvider
from dms.application.device.device import DeviceService
from dms.application.device.doctor import Doctor
from dms.application.device.ml_images import MlImages
from dms.application.device.refusals import Door, Refusals
from dms.application.device.sandbox import LoneSandbox, SandboxWatch
from dms.application.files import move_files
from dms.application.files.file_exchange import FileExchange
from dms.application.files.transfers import TransferLimits, Transfers
from dms.application.files.user_files import Inbox, Outbox
from dms.application.inputs.input_fetcher import InputFetcher, Pace
from dms.application.inputs.input_files import InputFiles
from dms.application.inputs.input_keeper import InputKeeper
from dms.application.inputs.own_inputs import OwnInputs
from dms.application.jobs.job_metrics import JobMetrics
from dms.application.jobs.job_outputs import JobOutputs
from dms.application.jobs.service_provider import ServiceProvider, Timeouts
from dms.application.loops import Loops
from dms.application.network.acquaintances import Acquaintances
from dms.application.network.availability import AvailabilityNews
from dms.application.network.budgets import Budgets
from dms.application.network.chats import Chats
from dms.application.network.directory import Directory
from dms.application.network.own_advertisement import OwnAdvertisement
from dms.application.payments.funding import PatientCheck
from dms.application.payments.transactions import Transactions
from dms.application.ports.executor import ArchivedFile, Executor
from dms.application.ports.funding import FundingCheck
from dms.application.ports.machine import Hardware
from dms.application.ports.peers import Host
from dms.application.ports.web import Web
from dms.application.reactors import Reactors
from dms.application.records.asyncapi import Part as Description
from dms.application.records.carry_out_erasures import CarryOutErasures
from dms.application.records.erasures import Erasures
from dms.application.records.heads import HeadExchange
from dms.application.records.retention import Retention
from dms.application.records.seals import Seals
from dms.application.records.verification import JobVerifier
from dms.application.results.contents import Contents
from dms.application.results.result_files import ResultFiles
from dms.application.results.results_keeper import ResultLimits, ResultsKeeper
from dms.application.results.results_receiver import ReceiverLimits, ResultsReceiver
from dms.application.services import Services
from dms.application.writes import Writes
from dms.clock import machine_clock
from dms.config import Funding, Job, Settings
from dms.daemon import Daemon, Parts, Readiness, Server
from dms.disk import make_folder
from dms.domain import sandbox
from dms.domain.api_token import ApiToken
from dms.domain.checkpoint import LARGEST_BYTES
from dms.domain.device import Capacity
from dms.domain.run_time import Instant
from dms.domain.stranger_limits import StrangerLimits
from dms.errors import ConfigError
from dms.keys import ADDRESS_KEY, NODE_KEY, node_identity, token_key
from dms.passphrase import passphrase_of
from projections.all import all_projections

if TYPE_CHECKING:
    from dms.adapters.nats.relay import NatsRelay
    from dms.adapters.tracing.tracer import Tracer

log = logging.getLogger("dms")

MIB = 1024 * 1024
SECONDS_A_DAY = 86_400
LEAST_KEEP_DAYS = 3.0  # that a provider keeps results which nobody has fetched yet
DOCKER_SOCKET = Path("/var/run/docker.sock")


def now_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Overrides:
    """What tests put in the place of parts; None leaves the daemon's own. now: Unix time, microseconds; clock: of this
    machine, for the time of runs; executor: by the id of this node; recorder: of the log in that file."""

    now: Callable[[], int] = now_us
    clock: Callable[[], Instant] = machine_clock
    hardware: Hardware | None = None
    network: Callable[[Identity], Host] | None = None
    executor: Callable[[str], Executor] | None = None
    funding: FundingCheck | None = None
    recorder: Callable[[Path], LogRecorder] = SQLiteRecorder
    server: Server | None = None


@dataclass(frozen=True)
class Base:
    """What the other parts are built on."""

    settings: Settings
    now: Callable[[], int]
    clock: Callable[[], Instant]
    loops: Loops
    writes: Writes
    event_log: DurableEventLog
    identity: Identity
    outputs: FileOutputStore
    views: SQLiteViews
    device: DeviceService
    refusals: Refusals
    acquaintances: Acquaintances
    budgets: Budgets
    executor: Executor
    funding: FundingCheck
    network: Host
    exchange: FileExchange
    checkpoint_files: CheckpointFiles
    result_files: ResultFiles
    web: Web
    input_files: InputFiles

    @property
    def data_dir(self) -> Path:
        return self.settings.general.data_dir

    @property
    def received(self) -> Path:
        """The folder of the files that peers sent."""
        return self.data_dir / "received_files"


async def build(
    settings: Settings, overrides: Overrides | None = None, tell: Callable[[str], None] = lambda _: None
) -> Daemon:
    """All parts made, none started. tell: gets each phase of the start.
    Raises DmsError: AlreadyRunning, LogCorrupt, LogUnavailable, ConfigError."""
    closing = AsyncExitStack()
    try:
        overrides = overrides or Overrides()
        base = _base(settings, overrides, closing)
        return Daemon(_parts(base, Readiness(base.event_log, base.loops, tell), overrides.server), closing)
    except BaseException:
        await closing.aclose()
        raise


def _base(settings: Settings, overrides: Overrides, closing: AsyncExitStack) -> Base:
    data_dir, work_dir = _folder(settings.general.data_dir), _folder(settings.general.work_dir)
    loops, writes = Loops(), Writes()
    event_log = _event_log(settings, overrides, loops)
    closing.push_async_callback(event_log.close)
    identity = node_identity(work_dir / NODE_KEY, event_log.recorder, data_dir, passphrase_of(settings))
    outputs = FileOutputStore(data_dir / "logs", settings.job.log_max_mb, Seals(event_log), writes)
    closing.push_async_callback(outputs.close)
    views = SQLiteViews(data_dir / "views.db", event_log, all_projections(), loops)
    closing.push_async_callback(views.close)
    hardware = overrides.hardware or ProbedHardware(HardwareProbe(), NvidiaGpus())
    make_executor = overrides.executor or (lambda node_id: _executor(settings, node_id, hardware.capacity()))
    executor = make_executor(identity.peer_id)
    closing.push_async_callback(executor.close)
    funding = overrides.funding or funding_check(settings.funding)
    closing.push_async_callback(funding.close)
    make_network = overrides.network or (lambda identity: _network(settings, identity, loops))
    network = make_network(identity)
    files = CheckpointFiles(data_dir)
    files.make()
    result_files = ResultFiles(data_dir)
    result_files.make()
    input_files = InputFiles(data_dir, settings.job.input_cache_mb * MIB)
    input_files.make()
    device = DeviceService(event_log, hardware, identity.peer_id)
    named = [*(address.rpartition("/p2p/")[2] for address in settings.p2p.bootstrap_peers), settings.job.target_peer]
    acquaintances = Acquaintances(event_log, device, network, named)
    web = WebFiles(_input_networks(settings))
    closing.push_async_callback(web.close)
    return Base(
        settings=settings,
        now=overrides.now,
        clock=overrides.clock,
        loops=loops,
        writes=writes,
        event_log=event_log,
        identity=identity,
        outputs=outputs,
        views=views,
        device=device,
        refusals=Refusals(overrides.now),
        acquaintances=acquaintances,
        budgets=Budgets(acquaintances.is_known),
        executor=executor,
        funding=funding,
        network=network,
        exchange=FileExchange(network),
        checkpoint_files=files,
        result_files=result_files,
        web=web,
        input_files=input_files,
    )


def _parts(base: Base, readiness: Readiness, server: Server | None) -> Parts:
    settings, event_log, loops = base.settings, base.event_log, base.loops
    relay = _relay(settings, event_log, base.identity.peer_id, loops)
    traces = tracer(settings, event_log, base.identity.peer_id, loops)
    metadata_file = MetadataFile(event_log, base.views, settings.general.work_dir, loops, base.writes)
    figures = _figures(base, readiness, relay)
    reactors = Reactors(event_log, loops, writes=base.writes)
    base.network.on_peer(reactors.on_peer)
    head_file = HeadFile(base.data_dir, base.identity.peer_id, base.writes)
    heads = HeadExchange(event_log, base.network, base.identity, head_file, base.now, loops=loops)
    services = _services(base, readiness, metadata_file, figures, heads, relay)
    interval = settings.job.cleanup_interval * SECONDS_A_DAY
    return Parts(
        settings=settings,
        readiness=readiness,
        services=services,
        event_log=event_log,
        log_watch=LogWatch(event_log, loops),
        views=base.views,
        server=server or _server(services, base.views, settings),
        host=base.network,
        executor=base.executor,
        exchange=base.exchange,
        heads=heads,
        reactors=reactors,
        file_reactors=move_files.reactors_of(
            services.transfers, event_log, base.network, base.exchange, Inbox(base.received), base.clock
        ),
        availability=AvailabilityNews(event_log, services.advertisement.stir, loops),
        cleaner=Cleaner(event_log, services.compute_provider, base.executor, interval, loops),
        figures=figures,
        metadata_file=metadata_file,
        exporters=[part for part in (traces, relay) if part is not None],
    )


def _services(
    base: Base,
    readiness: Readiness,
    metadata_file: MetadataFile,
    figures: Figures,
    heads: HeadExchange,
    relay: NatsRelay | None,
) -> Services:
    event_log, executor, peer_id = base.event_log, base.executor, base.identity.peer_id
    own = OwnAdvertisement(event_log, base.device, base.network, base.identity, base.now, base.loops)
    directory = Directory(
        event_log, base.device, base.network, base.identity, own, base.clock, base.budgets, base.loops
    )
    receiver, results = _checkpoint_receiver(base), _results_receiver(base)
    archive, archive_after = SegmentArchive(event_log, base.identity), base.settings.eventlog.archive_after_days
    outputs, compute_provider = JobOutputs(event_log, base.outputs), _compute_provider(base)
    return Services(
        log=event_log,
        outputs=outputs,
        network=base.network,
        signer=base.identity,
        device=base.device,
        doctor=_doctor(base, compute_provider.sandbox),
        refusals=base.refusals,
        advertisement=own,
        directory=directory,
        service_provider=_service_provider(base, directory, receiver, results),
        compute_provider=compute_provider,
        checkpoints=receiver,
        results=results,
        contents=Contents(event_log, base.checkpoint_files, base.result_files, _open_archive, base.loops),
        transfers=_transfers(base, Inbox(base.received)),
        chats=Chats(base.network, Door(base.device, base.refusals), base.now, base.acquaintances.is_known),
        transactions=Transactions(event_log, base.identity, base.funding),
        erasures=_erasures(base),
        tokens=_tokens(base.event_log, base.now),
        log_token=_log_tokens(base),
        metadata_path=metadata_file.path,
        database_path=base.settings.events_db,
        new_wallet=new_wallet,
        ready=readiness.ready,
        phase=readiness.phase,
        loops=base.loops,
        now=base.now,
        executor_name=executor.name,
        ml_images=MlImages(base.device, executor, executor if isinstance(executor, DockerExecutor) else None, peer_id),
        metrics=figures,
        job_metrics=JobMetrics(outputs),
        retention=Retention(archive, archive_after, base.now, base.loops),
        verifier=JobVerifier(event_log, outputs, base.identity, heads.own_heads, base.now),
        relay=relay,
        writes=base.writes,
    )


@asynccontextmanager
async def stored_tokens(settings: Settings) -> AsyncIterator[Tokens]:
    """The tokens of a DMS that does not run, to be made before its first start. Raises DmsError: AlreadyRunning,
    LogCorrupt, ConfigError."""
    _folder(settings.general.data_dir)
    event_log = _event_log(settings, Overrides(), Loops())
    try:
        await event_log.start()
        yield _tokens(event_log, now_us)
    finally:
        await event_log.close()


def _tokens(event_log: DurableEventLog, now: Callable[[], int]) -> Tokens:
    """Those that were made before are known from the first moment."""
    tokens = Tokens(event_log, now)
    tokens.take_up(name.partition("-")[2] for name in event_log.recorder.streams(ApiToken.KIND))
    return tokens


def _doctor(base: Base, sandbox: SandboxWatch) -> Doctor:
    return Doctor(base.executor, machine_of(base.settings), sandbox, lambda: base.network.listen_addresses, base.now)


def machine_of(settings: Settings) -> Machine:
    data_dir, work_dir = settings.general.data_dir, settings.general.work_dir
    named = [Path(settings.general.key_passphrase_file)] if settings.general.key_passphrase_file else []
    return Machine(
        {"the event log": data_dir, "the node's key": work_dir}, (work_dir / NODE_KEY, data_dir / ADDRESS_KEY, *named)
    )


@asynccontextmanager
async def doctor_alone(settings: Settings) -> AsyncIterator[Doctor]:
    """Of a DMS that does not run: nothing is recorded. Raises ConfigError."""
    capacity = await asyncio.to_thread(ProbedHardware(HardwareProbe(), NvidiaGpus()).capacity)
    executor = _executor(settings, "nunet-doctor", capacity)
    try:
        yield Doctor(executor, machine_of(settings), LoneSandbox(executor), None, now_us)
    finally:
        await executor.close()


def _erasures(base: Base) -> Erasures:
    carrying = CarryOutErasures(
        base.event_log,
        base.views,
        base.outputs,
        base.checkpoint_files,
        base.result_files,
        base.input_files,
        Inbox(base.received),
        base.refusals,
        base.data_dir,
    )
    return Erasures(base.event_log, carrying, base.data_dir)


# --- the two roles -----------------------------------------------------------------------------------
def _compute_provider(base: Base) -> ComputeProvider:
    settings = base.settings
    patient = PatientCheck(base.funding, settings.funding.timeout_seconds, base.now)
    return ComputeProvider(
        base.event_log,
        base.device,
        base.executor,
        base.outputs,
        base.identity,
        _checkpoint_keeper(base),
        _input_keeper(base),
        _results_keeper(base),
        base.clock,
        base.refusals,
        base.budgets,
        base.acquaintances,
        confined=base.executor.name == "docker",
        run_unconfined_for_peers=settings.job.allow_process_for_peers,
        funding=patient if settings.funding.check != "trust" else None,
        strangers=_stranger_limits(settings),
        loops=base.loops,
    )


def _stranger_limits(settings: Settings) -> StrangerLimits:
    strangers = settings.strangers
    return StrangerLimits(
        max_minutes=strangers.max_minutes,
        max_cpu_mhz=strangers.max_cpu_mhz,
        max_memory_mb=strangers.max_memory_mb,
        max_jobs=strangers.max_jobs,
        max_share_percent=strangers.max_share,
        trusts_payments=strangers.trust_payments,
    )


def _service_provider(
    base: Base, directory: Directory, receiver: CheckpointReceiver, results: ResultsReceiver
) -> ServiceProvider:
    job = base.settings.job
    timeouts = Timeouts(
        funding_window=job.funding_window,
        answer=job.answer_timeout,
        provider_grace=job.provider_grace,
        funding_check=base.settings.funding.timeout_seconds,
    )
    return ServiceProvider(
        base.event_log,
        base.device,
        directory,
        base.network,
        base.outputs,
        base.identity,
        base.funding,
        receiver,
        results,
        OwnInputs(base.event_log, base.exchange, _outbox(base)),
        base.now,
        base.clock,
        timeouts,
        base.budgets,
        job.target_peer,
        base.settings.rest.max_unpaid_jobs,
    )


def _input_keeper(base: Base) -> InputKeeper:
    job = base.settings.job
    fetcher = InputFetcher(base.web, base.exchange, base.input_files, Pace(patience_seconds=job.input_patience))
    return InputKeeper(base.event_log, base.executor, base.web, fetcher, base.input_files, job.input_max_mb * MIB)


def _checkpoint_keeper(base: Base) -> CheckpointKeeper:
    job = base.settings.job
    times = CheckpointTimes(
        interval_seconds=job.log_update_interval * 60,
        keep_seconds=job.cleanup_interval * SECONDS_A_DAY,
        max_bytes=job.checkpoint_max_mb * MIB,
    )
    return CheckpointKeeper(
        base.event_log, base.executor, base.checkpoint_files, base.exchange, base.now, times, base.loops
    )


def _results_keeper(base: Base) -> ResultsKeeper:
    job = base.settings.job
    limits = ResultLimits(
        max_bytes=job.results_max_mb * MIB, keep_seconds=max(job.cleanup_interval, LEAST_KEEP_DAYS) * SECONDS_A_DAY
    )
    return ResultsKeeper(base.event_log, base.executor, base.result_files, base.exchange, base.now, limits, base.loops)


def _results_receiver(base: Base) -> ResultsReceiver:
    job = base.settings.job
    limits = ReceiverLimits(
        max_bytes=job.results_max_mb * MIB,
        fetch_seconds=LEAST_KEEP_DAYS * SECONDS_A_DAY,
        keep_seconds=job.results_keep_days * SECONDS_A_DAY,
    )
    return ResultsReceiver(
        base.event_log,
        base.network,
        base.result_files,
        base.checkpoint_files,
        base.exchange,
        _check_archive,
        base.now,
        limits,
        base.loops,
    )


async def _open_archive(archive: Path, into: Path) -> Sequence[ArchivedFile]:
    """Raises ArchiveRefused, ExecutionError, ExecutorUnavailable. What is here was checked when it came: only its own
    size bounds it."""
    return await asyncio.to_thread(open_archive, archive, into, LARGEST_BYTES)


def _checkpoint_receiver(base: Base) -> CheckpointReceiver:
    return CheckpointReceiver(
        base.event_log,
        base.network,
        base.checkpoint_files,
        base.exchange,
        _check_archive,
        base.now,
        grace_seconds=base.settings.job.provider_grace,
        max_bytes=base.settings.job.checkpoint_max_mb * MIB,
    )


async def _check_archive(archive: Path, max_bytes: int) -> None:
    """Raises ArchiveRefused."""
    await asyncio.to_thread(check_archive, archive, max_bytes)


def _transfers(base: Base, inbox: Inbox) -> Transfers:
    files = base.settings.files
    return Transfers(
        base.event_log,
        base.network,
        base.exchange,
        _outbox(base),
        inbox,
        base.clock,
        Door(base.device, base.refusals),
        base.budgets,
        TransferLimits(max_bytes=files.max_mb * MIB, max_offers=files.max_offers),
    )


def _outbox(base: Base) -> Outbox:
    general, folders = base.settings.general, base.settings.files.send_folders
    return Outbox([Path(folder) for folder in folders], (general.data_dir, general.work_dir), base.received)


# --- adapters ----------------------------------------------------------------------------------------
def _event_log(settings: Settings, overrides: Overrides, loops: Loops) -> DurableEventLog:
    if settings.eventlog.url:
        raise ConfigError("eventlog.url: this version keeps its log in general.data_dir; leave the setting empty")
    return DurableEventLog(overrides.recorder(settings.events_db), overrides.now, loops=loops)


def _network(settings: Settings, identity: Identity, loops: Loops) -> Libp2pNetwork:
    return Libp2pNetwork(identity, settings.p2p, loops=loops, remembered=settings.general.data_dir / "peers.json")


def _server(services: Services, views: SQLiteViews, settings: Settings) -> HttpServer:
    rest = settings.rest
    app = build_app(
        services,
        views,
        rest,
        verbose=settings.general.debug,
        debug_routes="NUNET_DEBUG" in os.environ,
        streams=_streams,
    )
    return HttpServer(app, rest, services.loops)


def _figures(base: Base, readiness: Readiness, relay: NatsRelay | None) -> Figures:
    events_db = base.settings.events_db
    figures = Figures(
        base.event_log,
        base.views,
        base.network,
        relay,
        [events_db, events_db.with_name(events_db.name + "-wal")],
        readiness.ready,
        lambda: base.device.hindrance,
        base.budgets.refused,
        base.loops,
    )
    base.event_log.on_commit(figures.committed)
    return figures


def _log_tokens(base: Base) -> Callable[[str], str]:
    key = token_key(base.data_dir / ADDRESS_KEY, base.event_log.recorder)
    return lambda job_id: hmac.digest(key, job_id.encode(), "sha256").hex()[:40]


def _executor(settings: Settings, node_id: str, capacity: Capacity) -> Executor:
    kind = settings.job.executor
    if kind == "auto":
        kind = "docker" if _has_docker() else "process"
        if kind == "process":
            log.warning("no Docker engine is installed: jobs of other peers are refused (see job.executor)")
    if kind == "docker":
        return _docker_executor(settings, node_id, capacity)
    limits = ProcessLimits(output_mb=settings.job.log_max_mb + 1)  # the mark of the output store comes first
    folder, gives_internet = settings.general.data_dir / "processes", settings.job.network != "none"
    return ProcessExecutor(node_id, folder, limits, gives_internet=gives_internet)


def _docker_executor(settings: Settings, node_id: str, capacity: Capacity) -> DockerExecutor:
    job = settings.job
    limits = ContainerLimits(
        core_mhz=max(1, capacity.cpu_mhz // max(1, capacity.cores)),
        cores=capacity.cores,
        image_user=job.run_as_image_user,
        log_mb=job.log_max_mb,
    )
    wanted = DockerSettings(
        limits=limits,
        policy=ImagePolicy(job.image_allow, job.image_deny),
        workspaces=settings.general.data_dir.resolve() / "workspaces",
        workspace_volumes=True,
        patience_seconds=job.answer_timeout,
        runtime=job.runtime,
        network=job.network,
        gateways=_gateways(job),
        sandbox_accept=_sandbox_accept(job),
    )
    return DockerExecutor(node_id, wanted)


def _sandbox_accept(job: Job) -> tuple[str, ...]:
    """Raises ConfigError."""
    if wrong := [name for name in job.sandbox_accept if name not in sandbox.ALL_NAMES]:
        raise ConfigError(
            f"job.sandbox_accept: {wrong[0]!r} is no row of the sandbox's test: {', '.join(sandbox.NAMES)}, "
            f"each also with {sandbox.GVISOR}- before it"
        )
    return job.sandbox_accept


def _input_networks(settings: Settings) -> list[IPv4Network | IPv6Network]:
    try:
        return [ip_network(text) for text in settings.job.input_networks]
    except ValueError as error:
        raise ConfigError(f"job.input_networks: {error}; networks such as 10.1.0.0/16 are expected") from error


def _gateways(job: Job) -> GatewaySettings:
    """Raises ConfigError."""
    try:
        resolver = IPv4Address(job.resolver) if job.resolver else None
        if resolver is not None and (resolver.is_loopback or resolver.is_unspecified):
            raise ValueError(f"{resolver} is each machine's own, and no other's")
    except ValueError as error:
        raise ConfigError(f"job.resolver: expected the IPv4 address of a name server: {error}") from error
    try:
        return GatewaySettings(range=job_range(job.network_range), resolver=resolver, max_mb=job.network_max_mb)
    except ValueError as error:
        raise ConfigError(f"job.network_range: expected a private network, /8 to /29: {error}") from error


def _has_docker() -> bool:
    """Installed, not: answering now. An engine that starts after us must not change what we are."""
    return "DOCKER_HOST" in os.environ or DOCKER_SOCKET.exists() or shutil.which("dockerd") is not None


def _folder(path: Path) -> Path:
    try:
        return make_folder(path)
    except OSError as error:
        raise ConfigError(f"folder {path} can't be made: {error.strerror}; set another in the configuration") from error


def _relay(
    settings: Settings, event_log: DurableEventLog, peer_id: str, loops: Loops | None = None
) -> NatsRelay | None:
    """Nothing of NATS is imported unless it is set up."""
    if not settings.nats.url:
        return None
    from dms.adapters.nats.relay import NatsRelay

    return NatsRelay(event_log, peer_id, settings.nats, settings.general.data_dir / "nats-relay.json", loops)


def _streams() -> list[Description]:
    """What the relay sends, asked for only to describe it; nothing of NATS is imported before."""
    from dms.adapters.nats import description

    return [description.part()]


def funding_check(settings: Funding) -> FundingCheck:
    """Raises ConfigError when what it needs is not set."""
    if settings.check == "trust":
        return TrustCheck()
    for name, value in (("rpc_url", settings.rpc_url), ("chain_id", settings.chain_id)):
        if not value:
            raise ConfigError(f"funding.check is ledger, which needs funding.{name}")
    return LedgerCheck(settings)


def tracer(settings: Settings, event_log: DurableEventLog, peer_id: str, loops: Loops | None = None) -> Tracer | None:
    """Only where the standard variables of OpenTelemetry name a collector; they are set for a whole
    machine at times, so a missing extra is no reason not to start."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    off = os.environ.get("OTEL_SDK_DISABLED", "").casefold() == "true"
    if off or os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp" or not any(os.environ.get(n) for n in names):
        return None
    try:
        from dms.adapters.tracing.tracer import Tracer
    except ImportError as error:
        log.warning("no traces are sent: %s; install nunet-dms[otel]", error, extra={"action": "traces_off"})
        return None
    return Tracer(event_log, peer_id, settings.general.data_dir / "traces.position", loops=loops)
