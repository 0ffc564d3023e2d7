"""Builds every object of the daemon once and runs it. The only module that knows the concrete classes."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import secrets
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from dms.adapters.eventlog.archive import SQLiteEventArchive
from dms.adapters.eventlog.audit import check_signatures, import_log
from dms.adapters.eventlog.facts import FactReader
from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.owner import LogOwner
from dms.adapters.eventlog.scan import scan
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.adapters.eventlog.watch import LogWatch
from dms.adapters.executors.archive import check_archive
from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.adapters.executors.images import ImagePolicy
from dms.adapters.executors.process import ProcessExecutor, ProcessLimits
from dms.adapters.executors.profile import ContainerLimits
from dms.adapters.funding.ledger import LedgerCheck, LedgerSettings
from dms.adapters.funding.trust import TrustCheck
from dms.adapters.hardware.nvidia import NvidiaGpus
from dms.adapters.hardware.probe import HardwareProbe
from dms.adapters.heads.file import FILE_NAME as HEADS_FILE
from dms.adapters.heads.file import HeadFile, read_heads
from dms.adapters.http.server import HttpServer, build_app
from dms.adapters.metadata.file import MetadataFile
from dms.adapters.metrics.figures import Figures
from dms.adapters.outputs.audit import OutputsChecked, check_outputs
from dms.adapters.outputs.files import FileOutputStore
from dms.adapters.p2p.identity import Identity, verify_signature
from dms.adapters.p2p.network import Libp2pNetwork
from dms.adapters.service.limits import raise_open_files
from dms.adapters.service.logs import BackgroundHandler, rotating, to_descriptor, to_file
from dms.adapters.service.notify import ServiceManager
from dms.adapters.views.check import check_views
from dms.adapters.views.replay import replay
from dms.adapters.views.sqlite import SQLiteViews
from dms.adapters.wallets.maker import new_wallet
from dms.application.asyncapi import Part
from dms.application.chats import Chats
from dms.application.checkpoint_files import CheckpointFiles
from dms.application.checkpoint_keeper import CheckpointKeeper, CheckpointTimes
from dms.application.checkpoint_receiver import CheckpointReceiver
from dms.application.cleanup import Cleaner
from dms.application.compute_provider import ComputeProvider
from dms.application.control import serve_control
from dms.application.device import DeviceService
from dms.application.directory import Directory
from dms.application.erasures import Erasures
from dms.application.file_exchange import FileExchange
from dms.application.funding import PatientCheck
from dms.application.heads import HeadExchange
from dms.application.loops import Loops
from dms.application.ml_images import MlImages
from dms.application.overview import Services
from dms.application.ports import Executor, FundingCheck, SealedLog
from dms.application.retention import Retention
from dms.application.seals import SEALED_TOPICS, Seals, scopes_of, sealed_by
from dms.application.service_provider import ServiceProvider, Timeouts
from dms.application.tasks import cancelled
from dms.application.transactions import Transactions
from dms.application.transfers import TransferLimits, Transfers
from dms.application.user_files import Inbox, Outbox
from dms.application.writes import Writes
from dms.config import EVENTS_DB, Funding, Loaded, Settings
from dms.disk import DAEMON_UMASK, create_file, make_folder, sync_folder
from dms.domain.deployment import Deployment
from dms.domain.device import Capacity, Device
from dms.domain.erasure import Erasure
from dms.domain.event import Event
from dms.domain.export import Checker
from dms.domain.gpus import GpuReading
from dms.domain.heads import Countersignature, Heads, Witnessed, countersignatures, held_against, is_genuine, whose
from dms.domain.policy import Policy
from dms.domain.transfer import OPEN_STATES
from dms.domain.what_if import WhatIf
from dms.errors import ConfigError, DmsError, InvalidInput, LogCorrupt, LogUnavailable, NotFound
from dms.key_file import read_key
from projections.base import Folds, Projection
from projections.capacity import Capacity as CapacityView
from projections.checkpoints import OFFERED, Checkpoints
from projections.device import DeviceView
from projections.erasures import REQUESTED
from projections.erasures import Erasures as ErasuresView
from projections.jobs import OPEN_STATUSES, Jobs
from projections.transactions import Transactions as TransactionsView
from projections.transfers import Transfers as TransfersView

if TYPE_CHECKING:
    from dms.adapters.nats.relay import NatsRelay
    from dms.adapters.tracing.tracer import Tracer

log = logging.getLogger("dms")

MIB = 1024 * 1024
SWITCH_SECONDS = 0.0005  # a thread that commits must not wait for the loop's whole 5 ms turn
SECONDS_A_DAY = 86_400
NODE_KEY = "node.key"
TOKEN_KEY_BYTES = 32
DOCKER_SOCKET = Path("/var/run/docker.sock")


def now_us() -> int:
    return time.time_ns() // 1000


class ProbedHardware:
    """The hardware probes as the application's port."""

    def __init__(self, probe: HardwareProbe, gpus: NvidiaGpus) -> None:
        self._probe, self._gpus = probe, gpus

    def capacity(self) -> Capacity:
        found = self._probe.read()
        return Capacity(cpu_mhz=found.cpu_mhz, memory_mb=found.memory_mb, cores=found.cores)

    async def read_gpus(self) -> tuple[GpuReading, ...]:
        return await asyncio.to_thread(self._gpus.read)


class Daemon:
    """One DMS. `start`, then serve until `close`; a daemon is not started twice."""

    def __init__(self, settings: Settings, tell: Callable[[str], None] = lambda _: None) -> None:
        """tell: gets each phase of the start."""
        self.settings, self._tell = settings, tell
        self._closing = AsyncExitStack()
        self._phase: str | None = "starting"
        self.loops = Loops()
        self._writes = Writes()

    async def start(self) -> None:
        """Raises DmsError: AlreadyRunning, LogCorrupt, ConfigError, Unavailable."""
        try:
            await self._start()
        except BaseException:
            await self._closing.aclose()
            raise

    async def close(self) -> None:
        """Stops serving, leaves containers running, writes what is queued."""
        self._phase = "stopping"
        await self._closing.aclose()

    def ready(self) -> str | None:
        """Why it is not ready; None when it is. What is asked for then is tried all the same."""
        found = [text for text in (self._phase, self._event_log.trouble, self.loops.trouble) if text]
        return "; ".join(found) or None

    def phase(self) -> str | None:
        """Of the start or the stop: nothing is answered in it."""
        return self._phase

    async def _start(self) -> None:
        settings = self.settings
        data_dir = _folder(settings.general.data_dir)
        work_dir = _folder(settings.general.work_dir)
        if settings.eventlog.url:
            raise ConfigError("eventlog.url: this version keeps its log in general.data_dir; leave the setting empty")
        event_log = self._event_log = SQLiteEventLog(settings.events_db, now_us, loops=self.loops)
        self._closing.push_async_callback(event_log.close)
        identity = node_identity(work_dir / NODE_KEY, event_log.recorder, data_dir)
        await event_log.start()
        self._log_watch = LogWatch(event_log, self.loops)
        await asyncio.to_thread(self._log_watch.check_newest)
        outputs = FileOutputStore(data_dir / "logs", settings.job.log_max_mb, Seals(event_log), self._writes)
        self._closing.push_async_callback(outputs.close)
        projections = all_projections()
        self._views = SQLiteViews(data_dir / "views.db", event_log, projections, self.loops)
        self._closing.push_async_callback(self._views.close)
        self._metadata_file = MetadataFile(event_log, self._views, work_dir, self.loops, self._writes)
        hardware = ProbedHardware(HardwareProbe(), NvidiaGpus())
        device = DeviceService(event_log, hardware, identity.peer_id)
        network = Libp2pNetwork(
            identity,
            settings.p2p.listen_address,
            settings.p2p.announce_address,
            settings.p2p.bootstrap_peers,
            settings.p2p.mdns,
            loops=self.loops,
            remembered=data_dir / "peers.json",
        )
        exchange = FileExchange(network)
        exchange.start()
        executor = self._executor = _executor(settings, identity.peer_id, hardware.capacity())
        self._closing.push_async_callback(executor.close)
        funding = funding_check(settings.funding)
        self._closing.push_async_callback(funding.close)
        patience = settings.funding.timeout_seconds
        directory = Directory(event_log, device, network, identity, now_us, self.loops)
        heads = HeadFile(data_dir, identity.peer_id, self._writes)
        self._heads = HeadExchange(event_log, network, identity, heads, now_us, loops=self.loops)
        files = CheckpointFiles(data_dir)
        files.make()
        times = _checkpoint_times(settings)
        keeper = CheckpointKeeper(event_log, executor, files, exchange, now_us, times, self.loops)
        receiver = CheckpointReceiver(
            event_log,
            network,
            files,
            exchange,
            _check_archive,
            now_us,
            grace_seconds=settings.job.provider_grace,
            max_bytes=settings.job.checkpoint_max_mb * MIB,
        )
        compute = ComputeProvider(
            event_log,
            device,
            executor,
            outputs,
            identity,
            keeper,
            now_us,
            confined=executor.name == "docker",
            run_unconfined_for_peers=settings.job.allow_process_for_peers,
            funding=PatientCheck(funding, patience, now_us) if settings.funding.check != "trust" else None,
            loops=self.loops,
        )
        service = ServiceProvider(
            event_log,
            device,
            directory,
            network,
            outputs,
            identity,
            funding,
            receiver,
            now_us,
            Timeouts(
                funding_window=settings.job.funding_window,
                answer=settings.job.answer_timeout,
                provider_grace=settings.job.provider_grace,
                funding_check=patience,
            ),
            settings.job.target_peer,
        )
        self._relay = _relay(settings, event_log, identity.peer_id, self.loops)
        self._tracer = _tracer(settings, event_log, identity.peer_id, self.loops)
        self._figures = Figures(
            event_log,
            self._views,
            network,
            self._relay,
            [settings.events_db, settings.events_db.with_name(settings.events_db.name + "-wal")],
            self.ready,
            lambda: device.hindrance,
            self.loops,
        )
        event_log.on_commit(self._figures.committed)
        tokens_key = token_key(data_dir / "token.key", event_log.recorder)
        self.services = Services(
            log=event_log,
            outputs=outputs,
            network=network,
            signer=identity,
            device=device,
            directory=directory,
            service_provider=service,
            compute_provider=compute,
            checkpoints=receiver,
            transfers=_transfers(settings, event_log, network, exchange),
            chats=Chats(network, now_us),
            transactions=Transactions(event_log, identity, funding),
            erasures=Erasures(event_log, self._views, outputs, files, Inbox(_received(settings)), data_dir),
            log_token=lambda job_id: hmac.digest(tokens_key, job_id.encode(), "sha256").hex()[:40],
            metadata_path=self._metadata_file.path,
            database_path=settings.events_db,
            new_wallet=new_wallet,
            ready=self.ready,
            phase=self.phase,
            loops=self.loops,
            now=now_us,
            executor_name=executor.name,
            ml_images=MlImages(
                device, executor, executor if isinstance(executor, DockerExecutor) else None, identity.peer_id
            ),
            metrics=self._figures,
            retention=Retention(
                SQLiteEventArchive(event_log, identity), settings.eventlog.archive_after_days, now_us, self.loops
            ),
            relay=self._relay,
            writes=self._writes,
        )
        await self._serve(network, compute, service, directory)

    async def _serve(
        self, network: Libp2pNetwork, compute: ComputeProvider, service: ServiceProvider, directory: Directory
    ) -> None:
        """From the outside in: the API answers (not ready), the views catch up, then work goes on."""
        rest = self.settings.rest
        app = build_app(
            self.services,
            self._views,
            rest,
            verbose=self.settings.general.debug,
            debug_routes="NUNET_DEBUG" in os.environ,
            streams=_streams,
        )
        server = HttpServer(app, rest.addr, rest.port)
        self._closing.push_async_callback(server.close)
        self.port = await server.start()
        self._enter("reading the log")
        if self._event_log.damage:
            await self._serve_damaged()
            return
        await self._views.start()
        self._closing.push_async_callback(self._log_watch.close)
        await self._log_watch.start()
        try:
            await self._take_part(network, compute, service, directory)
        except LogCorrupt as error:  # in a part that was not looked at yet
            self._event_log.refuse(str(error))
        self._phase = None
        if self._event_log.damage:
            return
        log.info(
            "ready: REST on http://%s:%d, peer %s, %s",
            rest.addr, self.port, network.peer_id, self._how_jobs_run(),
            extra={"action": "ready"},
        )  # fmt: skip

    async def _take_part(
        self, network: Libp2pNetwork, compute: ComputeProvider, service: ServiceProvider, directory: Directory
    ) -> None:
        """All that goes on from the log. Raises LogCorrupt."""
        self._closing.push_async_callback(self.services.erasures.close)
        await self.services.erasures.resume(await self._open_erasures())
        self._closing.push_async_callback(self._metadata_file.close)
        await self._metadata_file.start()
        self._closing.push_async_callback(self._figures.close)
        await self._figures.start()
        if self._tracer is not None:
            self._closing.push_async_callback(self._tracer.close)
            await self._tracer.start()
        if self._relay is not None:
            self._closing.push_async_callback(self._relay.close)
            await self._relay.start()
        self._enter("joining the network")
        compute.serve(network)
        serve_control(network, compute.on_terminate, self._heads.on_head)
        directory.serve()
        self.services.transfers.serve()
        self.services.chats.serve()
        self.services.checkpoints.serve()
        self._closing.push_async_callback(network.close)
        await network.start()
        open_jobs = await self._open_jobs()
        self._closing.push_async_callback(self._heads.close)
        await self._heads.start(open_jobs)
        self._closing.push_async_callback(compute.close)
        await compute.start(open_jobs)
        interval = self.settings.job.cleanup_interval * SECONDS_A_DAY
        cleaner = Cleaner(self.services.log, compute, self._executor, interval, self.loops)
        self._closing.push_async_callback(cleaner.close)
        await cleaner.start()
        self._closing.push_async_callback(self.services.retention.close)
        await self.services.retention.start()
        self._closing.push_async_callback(directory.close)
        await directory.start()
        self._closing.push_async_callback(service.close)
        await service.start(open_jobs)
        self._closing.push_async_callback(self.services.chats.close)
        self._closing.push_async_callback(self.services.checkpoints.close)
        await self.services.checkpoints.start(await self._wanted_checkpoints())
        self._closing.push_async_callback(self.services.transfers.close)
        await self.services.transfers.start(await self._open_transfers())

    async def _serve_damaged(self) -> None:
        """Only what is read: nothing is started that would go on from a history that is not what was written."""
        try:
            await self._views.start()
        except LogCorrupt as error:
            log.error("the views can't be read from it: %s", error, extra={"action": "views_unreadable"})
            self._phase = self._event_log.damage
        else:
            self._phase = None

    def _how_jobs_run(self) -> str:
        hindrance = self.services.device.hindrance  # the engine was asked by now
        return f"no jobs of peers: {hindrance}" if hindrance else f"jobs run with {self.services.executor_name}"

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._tell(phase)

    async def _open_jobs(self) -> list[str]:
        """Job ids of both roles that had not ended, in the order requested (UUIDv7)."""
        return await self._keys(Jobs(), "status", (*OPEN_STATUSES, "requested"), lambda row: row.job_id)

    async def _open_transfers(self) -> list[str]:
        return await self._keys(TransfersView(), "state", OPEN_STATES, lambda row: row.transfer_id)

    async def _open_erasures(self) -> list[str]:
        return await self._keys(ErasuresView(), "state", (REQUESTED,), lambda row: row.erasure_id)

    async def _wanted_checkpoints(self) -> list[str]:
        return await self._keys(Checkpoints(), "state", (OFFERED,), lambda row: row.job_id)

    async def _keys(
        self, view: Projection[Any], column: str, values: Sequence[str], key: Callable[[Any], str]
    ) -> list[str]:
        found: list[str] = []
        after = ""
        while True:
            page = await self._views.page(view, limit=1000, after=after, where={column: values})
            found += map(key, page.rows)
            if not page.next:
                return found
            after = page.next


def _transfers(
    settings: Settings, event_log: SQLiteEventLog, network: Libp2pNetwork, exchange: FileExchange
) -> Transfers:
    general, files = settings.general, settings.files
    received = _received(settings)
    return Transfers(
        event_log,
        network,
        exchange,
        Outbox([Path(folder) for folder in files.send_folders], (general.data_dir, general.work_dir), received),
        Inbox(received),
        now_us,
        TransferLimits(max_bytes=files.max_mb << 20, max_offers=files.max_offers),
    )


def _received(settings: Settings) -> Path:
    return settings.general.data_dir / "received_files"


def _executor(settings: Settings, node_id: str, capacity: Capacity) -> Executor:
    kind = settings.job.executor
    if kind == "auto":
        kind = "docker" if _has_docker() else "process"
        if kind == "process":
            log.warning("no Docker engine is installed: jobs of other peers are refused (see job.executor)")
    if kind == "process":
        kept = ProcessLimits(output_mb=settings.job.log_max_mb + 1)  # the mark of the output store comes first
        return ProcessExecutor(node_id, settings.general.data_dir / "processes", kept)
    limits = ContainerLimits(
        core_mhz=max(1, capacity.cpu_mhz // max(1, capacity.cores)),
        cores=capacity.cores,
        network="bridge" if settings.job.network else "none",
        image_user=settings.job.run_as_image_user,
        log_mb=settings.job.log_max_mb,
    )
    policy = ImagePolicy(settings.job.image_allow, settings.job.image_deny)
    workspaces = settings.general.data_dir.resolve() / "workspaces"
    patience = settings.job.answer_timeout
    return DockerExecutor(
        node_id, DockerSettings(limits=limits, policy=policy, workspaces=workspaces, patience_seconds=patience)
    )


def _relay(settings: Settings, event_log: SQLiteEventLog, peer_id: str, loops: Loops | None = None) -> NatsRelay | None:
    """Nothing of NATS is imported unless it is set up."""
    if not settings.nats.url:
        return None
    from dms.adapters.nats.relay import NatsRelay

    return NatsRelay(event_log, peer_id, settings.nats, settings.general.data_dir / "nats-relay.json", loops)


def _streams() -> list[Part]:
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
    return LedgerCheck(
        LedgerSettings(
            rpc_url=settings.rpc_url,
            chain_id=settings.chain_id,
            token_address=settings.token_address,
            token_decimals=settings.token_decimals,
            confirmations=settings.confirmations,
        )
    )


def _tracer(settings: Settings, event_log: SQLiteEventLog, peer_id: str, loops: Loops | None = None) -> Tracer | None:
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


def _checkpoint_times(settings: Settings) -> CheckpointTimes:
    job = settings.job
    return CheckpointTimes(
        interval_seconds=job.log_update_interval * 60,
        keep_seconds=job.cleanup_interval * 86_400,
        max_bytes=job.checkpoint_max_mb * MIB,
    )


async def _check_archive(archive: Path, max_bytes: int) -> None:
    """Raises ArchiveRefused."""
    await asyncio.to_thread(check_archive, archive, max_bytes)


def _has_docker() -> bool:
    """Installed, not: answering now. An engine that starts after us must not change what we are."""
    return "DOCKER_HOST" in os.environ or DOCKER_SOCKET.exists() or shutil.which("dockerd") is not None


def _folder(path: Path) -> Path:
    try:
        return make_folder(path)
    except OSError as error:
        raise ConfigError(f"folder {path} can't be made: {error.strerror}; set another in the configuration") from error


def node_identity(path: Path, recorder: SQLiteRecorder, data_dir: Path) -> Identity:
    """Of the key file, which must be that of the log; made where the log is nobody's. Raises ConfigError."""
    try:
        owner = LogOwner(recorder, _witnessed(data_dir))
        found = Identity.load(path, owner.peers[-1] if owner.peers else "")
        if found is None:
            owner.check_gone(str(path))
            owner.release()
            found = Identity.create(path)
        else:
            owner.check(found.peer_id, str(path))
        owner.take(found.peer_id)
    except sqlite3.Error as error:
        raise LogUnavailable(f"{recorder.database} can't be written: {error}") from error
    return found


def _witnessed(data_dir: Path) -> str:
    """The peer whose heads are kept there; empty when nobody's are, or that can't be told."""
    try:
        return read_heads(data_dir / HEADS_FILE).peer_id
    except (NotFound, InvalidInput):
        return ""


def forget_identity(settings: Settings) -> str:
    """Gives up the identity of a DMS that does not run; answers whose it was, empty when nobody's. Killed at any point,
    it is given up or it is not. Raises DmsError: AlreadyRunning, LogCorrupt, ConfigError, LogUnavailable."""
    key_file = settings.general.work_dir / NODE_KEY
    recorder = SQLiteRecorder(settings.events_db) if settings.events_db.exists() else None
    peer_id = ""
    try:
        if recorder is not None:
            owner = LogOwner(recorder, _witnessed(settings.general.data_dir))
            peer_id = owner.peers[-1] if owner.peers else ""
            owner.release()
        if os.path.lexists(key_file):
            key_file.unlink()
            sync_folder(key_file.parent)
        return peer_id
    except OSError as error:
        raise ConfigError(f"{key_file} can't be removed: {error.strerror}") from error
    except sqlite3.Error as error:
        raise LogUnavailable(f"{settings.events_db} can't be written: {error}") from error
    finally:
        if recorder is not None:
            recorder.close()


def token_key(path: Path, recorder: SQLiteRecorder) -> bytes:
    """32 random bytes, made once: the key of the logs' tokens. Which it is the log remembers by a digest, since any
    32 bytes would do. Raises ConfigError, LogUnavailable."""
    what = "The key file of the output logs' addresses"
    way_out = (
        "Restore it from a backup, or move it away: the next start makes a new one, and addresses of logs that were "
        "given out before no longer open."
    )
    noted = recorder.note("token key")
    try:
        found = read_key(path, what)
        if found is None:
            if noted:
                log.warning("%s is gone: a new one is made, and addresses given out before no longer open", path)
                recorder.set_note("token key", b"")  # first: a kill must leave no key that is refused
            create_file(path, secrets.token_bytes(TOKEN_KEY_BYTES))
            found, noted = read_key(path, what) or b"", None
        if len(found) != TOKEN_KEY_BYTES:
            raise ConfigError(
                f"{what}, {path}, is damaged: it has {len(found)} bytes, not {TOKEN_KEY_BYTES}. {way_out}"
            )
        mark = sha256(b"nunet-dms token key" + found).digest()[:16]
        if not noted:
            recorder.set_note("token key", mark)
        elif noted != mark:
            raise ConfigError(f"{what}, {path}, is damaged or was replaced: it is not the one used so far. {way_out}")
    except OSError as error:
        raise ConfigError(f"{what}, {path}, can't be made: {error.strerror}") from error
    except sqlite3.Error as error:
        raise LogUnavailable(f"{recorder.database} can't be written: {error}") from error
    return found


# --- checks that need no daemon ----------------------------------------------------------------------
class Audit:
    """Of a log in use or not. Each step yields how far it is, and raises LogCorrupt naming what does not fit."""

    def __init__(self, database: Path) -> None:
        self._recorder = SQLiteRecorder(database, own=False)
        # Those beside it are not of a copy that has another name, which may be of another DMS, or older.
        self._views = database.with_name("views.db") if database.name == EVENTS_DB else None
        self._outputs = database.with_name("logs") if database.name == EVENTS_DB else None

    def close(self) -> None:
        self._recorder.close()

    def chain(self) -> Iterator[int]:
        """Positions. At the end also what the chain does not see: the keys of personal data, and the indices."""
        yield from self._recorder.verify()
        self._recorder.check_keys()
        self._recorder.check_structure()

    def signatures(self) -> Iterator[int]:
        """Records of providers, each against its author's key."""
        return check_signatures(self._recorder, verify_signature)

    @property
    def peer_id(self) -> str:
        """Whose log it is; empty when no event says so: the DMS never offered its device."""
        found = self._recorder.read(0, 1, topics=(Device.Onboarded.TOPIC,))
        return found[0].originator_id.removeprefix(f"{Device.KIND}-") if found else ""

    def heads(self, kept: Sequence[Heads], peer_id: str, last: int) -> Witnessed:
        """That peer's log, which ends at `last`, against what is kept of its heads."""
        return held_against(kept, peer_id, last, self._link_at, verify_signature)

    def whose(self, kept: Sequence[Heads]) -> str:
        """The peer whose log it is, as what is kept of heads tells. Raises InvalidInput when it does not."""
        return whose(kept, self._link_at)

    def _link_at(self, position: int) -> bytes | None:
        """None where the log no longer has it; that it has no gap, `chain` has shown."""
        try:
            return self._recorder.previous_hash(position + 1)
        except LogCorrupt:
            return None

    def views(self) -> Iterator[str]:
        """Names of the views that are what the log gives; none when there is no views.db beside events.db."""
        if self._views is not None and self._views.is_file():
            yield from check_views(self._views, all_projections(), self._recorder)

    def outputs(self) -> Iterator[OutputsChecked]:
        """What is stored of the jobs' outputs; nothing when there is no folder of them beside events.db."""
        if self._outputs is None or not self._outputs.is_dir():
            return
        sealed: dict[str, SealedLog] = {}
        erased: set[str] = set()
        position, topics = 0, (*SEALED_TOPICS, Erasure.Requested.TOPIC)
        while page := self._recorder.read(position, 1_000, topics=topics):
            for one in page:
                kind, _, job_id = one.originator_id.partition("-")
                if (seal := sealed_by(one)) is not None and (kind == Deployment.KIND or job_id not in sealed):
                    sealed[job_id] = seal
                erased.update(scopes_of(one))
            position = page[-1].position
        yield from check_outputs(self._outputs, sealed, erased)


class Replay:
    """A log in use or not, run again up to where it ends now. Each step yields how many events it took. Reads only."""

    def __init__(self, database: Path, policy: Policy | None, changes_kept: int) -> None:
        self._database, self._recorder = database, SQLiteRecorder(database, own=False)
        self.head = self._recorder.head
        self.views: dict[str, tuple[Projection[Any], dict[str, Any]]] = {p.name: (p, {}) for p in all_projections()}
        self.what_if = WhatIf(policy, changes_kept) if policy is not None else None

    def close(self) -> None:
        self._recorder.close()

    def fold(self) -> Iterator[int]:
        """Into `views`, and `what_if` where there is a policy."""
        folds, what_if = Folds(self.views.values()), self.what_if

        def reads(event_type: type[Event]) -> bool:
            return folds.reads(event_type) or (what_if is not None and event_type in what_if.READS)

        return replay(
            FactReader(self._recorder, reads), self.head, folds, what_if.take if what_if is not None else None
        )

    def scan(self) -> Iterator[int]:
        return scan(self._database, self.head)


def all_projections() -> list[Projection[Any]]:
    return [Jobs(), CapacityView(), DeviceView(), TransfersView(), TransactionsView(), Checkpoints(), ErasuresView()]


def export_checker() -> Checker:
    return Checker(verify_signature)


def export_against_heads(lines: Iterable[bytes], kept: Sequence[Heads], checker: Checker) -> Witnessed:
    """The export of a whole log, held against what is kept of its author's heads. Raises LogCorrupt where it does
    not verify itself; InvalidInput when it is of one job, whose events are not neighbours, or of a part of a log."""
    wanted = {c.head.position for heads in kept for c in countersignatures(heads)}
    links: dict[int, bytes] = {}
    for record in checker.records(lines):
        if record.position in wanted:
            links[record.position] = bytes.fromhex(record.hash)
    header = checker.header
    if header is None or checker.footer is None or header.kind != "log" or header.first != 1:
        raise InvalidInput("only the export of a whole log can be held against heads")
    return held_against(kept, header.peer_id, checker.footer.position, links.get, checker.verify)


def heads_in(path: Path) -> Heads:
    """Raises NotFound; InvalidInput when it is no file of heads."""
    return read_heads(path)


def genuine_countersignature(found: Countersignature) -> bool:
    return is_genuine(found, verify_signature)


def import_export(lines: Iterable[bytes], database: Path) -> Iterator[int]:
    """See import_log."""
    return import_log(lines, database, verify_signature)


# --- the process -----------------------------------------------------------------------------------
class JsonLines(logging.Formatter):
    """One JSON object a line, for journald and its readers; control characters can't break out of it."""

    _own = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {key: value for key, value in vars(record).items() if key not in self._own}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def _log_to_stderr(debug: bool) -> None:
    handler = BackgroundHandler(to_descriptor(sys.stderr.fileno()))
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(text if sys.stderr.isatty() else JsonLines())
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler], force=True)
    for chatty in ("asyncio", "urllib3", "docker", "httpx", "httpcore", "trio", "libp2p", "multiaddr"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def log_to_file(path: Path) -> None:
    """For `nunet log`, where no journal keeps what goes to standard error. At most 5 x 10 MB."""
    try:
        make_folder(path.parent)
        handler = BackgroundHandler(to_file(rotating(path, each_bytes=10_000_000, older=4)))
    except OSError as error:
        log.warning("no log file: %s", error)
        return
    handler.setFormatter(JsonLines())
    logging.getLogger().addHandler(handler)


def _goes_to_journal() -> bool:
    """Source: systemd.exec(5), JOURNAL_STREAM: a variable that was only inherited names another file."""
    found = os.fstat(sys.stderr.fileno())
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def serve(loaded: Loaded) -> None:
    """Runs the daemon until SIGTERM or SIGINT. Raises DmsError, which is in the log already."""
    os.umask(DAEMON_UMASK)
    _log_to_stderr(loaded.settings.general.debug)
    if not _goes_to_journal():
        log_to_file(loaded.settings.general.data_dir / "dms.log")
    for warning in loaded.warnings:
        log.warning("%s", warning)
    raise_open_files()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        uvloop.run(_until_told(loaded.settings))
    except DmsError as error:
        log.error("%s", error, extra={"action": "start_failed"})
        raise


async def _started(daemon: Daemon, told: asyncio.Event) -> bool:
    """False when it was told to stop before: a start may wait for long, as for a disk that is full."""
    starting, stopping = asyncio.create_task(daemon.start()), asyncio.create_task(told.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            return True
        log.info("stopping before the start is done", extra={"action": "stopping"})
        return False
    finally:
        await cancelled(starting)
        stopping.cancel()


async def _until_told(settings: Settings, signals: Sequence[int] = (signal.SIGTERM, signal.SIGINT)) -> None:
    told = asyncio.Event()
    for number in signals:
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    manager = ServiceManager.from_environment()
    daemon = Daemon(settings, manager.status)
    if not await _started(daemon, told):
        return
    manager.ready(daemon.ready() or f"ready: REST on port {daemon.port}")
    loops, watch = daemon.loops, None
    if manager.watchdog_seconds:
        watch = loops.start("service manager", lambda: manager.watch(lambda: loops.fault, daemon.ready))
    try:
        await told.wait()
    finally:
        log.info("stopping; containers go on running", extra={"action": "stopping"})
        manager.stopping()
        if watch is not None:
            await watch.close()
        await daemon.close()
