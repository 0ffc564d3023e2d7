"""The daemon as its interfaces see it: one object with every service behind it. bootstrap.py builds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from dms.application.access.tokens import Tokens
from dms.application.checkpoints.checkpoint_receiver import CheckpointReceiver
from dms.application.deployments.compute_provider import ComputeProvider
from dms.application.device.device import DeviceService
from dms.application.device.doctor import Doctor
from dms.application.device.ml_images import MlImages
from dms.application.device.refusals import Refusals
from dms.application.files.transfers import Transfers
from dms.application.jobs.job_metrics import JobMetrics
from dms.application.jobs.job_outputs import JobOutputs
from dms.application.jobs.service_provider import ServiceProvider
from dms.application.loops import Loops
from dms.application.network.chats import Chats
from dms.application.network.directory import Directory
from dms.application.network.own_advertisement import OwnAdvertisement
from dms.application.payments.transactions import Transactions
from dms.application.ports.event_log import EventLog
from dms.application.ports.operations import Metrics, Relay
from dms.application.ports.peers import PeerNetwork
from dms.application.ports.signing import Signer
from dms.application.records.erasures import Erasures
from dms.application.records.retention import Retention
from dms.application.records.verification import JobVerifier
from dms.application.results.contents import Contents
from dms.application.results.results_receiver import ResultsReceiver
from dms.application.writes import Writes
from dms.domain.wallet import NewWallet


@dataclass(frozen=True)
class Services:
    """ready: why the daemon is not ready, or None when it is. not_serving: why nothing is answered, while it starts
    or stops; None while it serves. log_token: the unguessable token of a job's log (an HMAC under a key of this node,
    so that it stands in no event).
    metadata_path: of the published metadata file, empty for none. database_path: of the event log, when it
    is a file. new_wallet: (blockchain, network), each may be empty; raises InvalidInput.
    now: Unix time in microseconds. relay: to NATS, when it is set up."""

    log: EventLog
    outputs: JobOutputs
    network: PeerNetwork
    signer: Signer
    device: DeviceService
    doctor: Doctor
    refusals: Refusals
    advertisement: OwnAdvertisement
    directory: Directory
    service_provider: ServiceProvider
    compute_provider: ComputeProvider
    checkpoints: CheckpointReceiver
    results: ResultsReceiver
    contents: Contents
    transfers: Transfers
    chats: Chats
    transactions: Transactions
    erasures: Erasures
    tokens: Tokens
    log_token: Callable[[str], str]
    metadata_path: Callable[[], Awaitable[str]]
    database_path: Path
    new_wallet: Callable[[str, str], NewWallet]
    ready: Callable[[], str | None]
    now: Callable[[], int]
    executor_name: str
    ml_images: MlImages
    metrics: Metrics
    job_metrics: JobMetrics
    retention: Retention
    verifier: JobVerifier
    relay: Relay | None = None
    not_serving: Callable[[], str | None] = lambda: None
    loops: Loops = field(default_factory=Loops)
    writes: Writes = field(default_factory=Writes)
