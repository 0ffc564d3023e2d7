"""What all the other parts are built on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from dms.adapters.eventlog.durable_log import DurableEventLog
from dms.adapters.hardware.nvidia import NvidiaGpus
from dms.adapters.hardware.probe import HardwareProbe
from dms.adapters.hardware.probed import ProbedHardware
from dms.adapters.outputs.files import FileOutputStore
from dms.adapters.p2p.addresses import remark_on_target
from dms.adapters.p2p.identity import Identity
from dms.adapters.views.sqlite import SQLiteViews
from dms.adapters.web.files import WebFiles
from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.device.device import DeviceService
from dms.application.device.refusals import Refusals
from dms.application.files.file_exchange import FileExchange
from dms.application.inputs.input_files import InputFiles
from dms.application.loops import Loops
from dms.application.network.acquaintances import Acquaintances
from dms.application.network.budgets import Budgets
from dms.application.ports.executor import Executor
from dms.application.ports.funding import FundingCheck
from dms.application.ports.peers import Host
from dms.application.ports.web import Web
from dms.application.records.seals import Seals
from dms.application.results.result_files import ResultFiles
from dms.application.writes import Writes
from dms.config import Job, Settings
from dms.domain.erasure import Erasure
from dms.domain.run_time import Instant
from dms.errors import ConfigError
from dms.keys import NODE_KEY, node_identity
from dms.passphrase import passphrase_of
from dms.wiring.adapters import build_event_log, build_funding_check, build_network, folder_at
from dms.wiring.engine import build_executor
from dms.wiring.overrides import Overrides
from projections.all import all_projections

log = logging.getLogger(__name__)

MIB = 1024 * 1024
SECONDS_A_DAY = 86_400
LEAST_KEEP_DAYS = 3.0  # that a provider keeps results which nobody has fetched yet


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


def build_base(settings: Settings, overrides: Overrides, closing: AsyncExitStack) -> Base:
    data_dir, work_dir = folder_at(settings.general.data_dir), folder_at(settings.general.work_dir)
    loops, writes = Loops(), Writes()
    event_log = build_event_log(settings, overrides, loops)
    closing.push_async_callback(event_log.close)
    identity = node_identity(work_dir / NODE_KEY, event_log.recorder, data_dir, passphrase_of(settings))
    seals = Seals(event_log)
    seals.take_up(name.partition("-")[2] for name in event_log.recorder.streams(Erasure.KIND))
    outputs = FileOutputStore(data_dir / "logs", settings.job.log_max_mb, seals, writes)
    closing.push_async_callback(outputs.close)
    views = SQLiteViews(data_dir / "views.db", event_log, all_projections(), loops)
    closing.push_async_callback(views.close)
    hardware = overrides.hardware or ProbedHardware(HardwareProbe(), NvidiaGpus())
    make_executor = overrides.executor or (lambda node_id: build_executor(settings, node_id, hardware.capacity()))
    executor = make_executor(identity.peer_id)
    closing.push_async_callback(executor.close)
    funding = overrides.funding or build_funding_check(settings.funding, overrides.now)
    closing.push_async_callback(funding.close)
    make_network = overrides.network or (lambda identity: build_network(settings, identity, loops))
    network = make_network(identity)
    files = CheckpointFiles(data_dir)
    files.make()
    result_files = ResultFiles(data_dir)
    result_files.make()
    input_files = InputFiles(data_dir, settings.job.input_cache_mb * MIB)
    input_files.make()
    device = DeviceService(event_log, hardware, identity.peer_id)
    named = [*(address.rpartition("/p2p/")[2] for address in settings.p2p.bootstrap_peers), settings.job.target_peer]
    if remark := remark_on_target(settings.job.target_peer):
        log.warning("%s", remark)
    acquaintances = Acquaintances(event_log, device, network, named)
    web = WebFiles(input_networks(settings.job))
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


def input_networks(job: Job) -> list[IPv4Network | IPv6Network]:
    """Raises ConfigError."""
    try:
        return [ip_network(text) for text in job.input_networks]
    except ValueError as error:
        raise ConfigError(f"job.input_networks: {error}; networks such as 10.1.0.0/16 are expected") from error
