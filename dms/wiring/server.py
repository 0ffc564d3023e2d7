"""The API: its server, and every service behind it."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from dms.adapters.eventlog.archive_writer import SegmentArchive
from dms.adapters.executors.docker import DockerExecutor
from dms.adapters.http.server import HttpServer, build_app
from dms.adapters.metadata.file import MetadataFile
from dms.adapters.metrics.figures import Figures
from dms.adapters.views.sqlite import SQLiteViews
from dms.adapters.wallets.maker import new_wallet
from dms.application.device.ml_images import MlImages
from dms.application.device.refusals import Door
from dms.application.files.user_files import Inbox
from dms.application.jobs.job_metrics import JobMetrics
from dms.application.jobs.job_outputs import JobOutputs
from dms.application.network.chats import Chats
from dms.application.network.directory import Directory
from dms.application.network.own_advertisement import OwnAdvertisement
from dms.application.payments.transactions import Transactions
from dms.application.records.asyncapi import Part as Description
from dms.application.records.carry_out_erasures import CarryOutErasures
from dms.application.records.erasures import Erasures
from dms.application.records.heads import HeadExchange
from dms.application.records.retention import Retention
from dms.application.records.verification import JobVerifier
from dms.application.results.contents import Contents
from dms.application.services import Services
from dms.config import Settings
from dms.daemon import Readiness
from dms.keys import ADDRESS_KEY, token_key
from dms.wiring.base import Base
from dms.wiring.doctor import build_doctor
from dms.wiring.files import build_transfers
from dms.wiring.provider import build_compute_provider
from dms.wiring.requester import (
    build_checkpoint_receiver,
    build_results_receiver,
    build_service_provider,
    open_kept_archive,
)
from dms.wiring.tokens import build_tokens

if TYPE_CHECKING:
    from dms.adapters.nats.relay import NatsRelay


def build_services(
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
    receiver, results = build_checkpoint_receiver(base), build_results_receiver(base)
    archive, archive_after = SegmentArchive(event_log, base.identity), base.settings.eventlog.archive_after_days
    outputs, compute_provider = JobOutputs(event_log, base.outputs), build_compute_provider(base)
    return Services(
        log=event_log,
        outputs=outputs,
        network=base.network,
        signer=base.identity,
        device=base.device,
        doctor=build_doctor(base, compute_provider.sandbox),
        refusals=base.refusals,
        advertisement=own,
        directory=directory,
        service_provider=build_service_provider(base, directory, receiver, results),
        compute_provider=compute_provider,
        checkpoints=receiver,
        results=results,
        contents=Contents(event_log, base.checkpoint_files, base.result_files, open_kept_archive, base.loops),
        transfers=build_transfers(base, Inbox(base.received)),
        chats=Chats(base.network, Door(base.device, base.refusals), base.now, base.acquaintances.is_known),
        transactions=Transactions(event_log, base.identity, base.funding),
        erasures=_build_erasures(base),
        tokens=build_tokens(base.event_log, base.now),
        log_token=_log_tokens(base),
        metadata_path=metadata_file.path,
        database_path=base.settings.events_db,
        new_wallet=new_wallet,
        ready=readiness.ready,
        not_serving=readiness.not_serving,
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


def _build_erasures(base: Base) -> Erasures:
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


def _log_tokens(base: Base) -> Callable[[str], str]:
    key = token_key(base.data_dir / ADDRESS_KEY, base.event_log.recorder)
    return lambda job_id: hmac.digest(key, job_id.encode(), "sha256").hex()[:40]


def build_figures(base: Base, readiness: Readiness, relay: NatsRelay | None) -> Figures:
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


def build_server(services: Services, views: SQLiteViews, settings: Settings) -> HttpServer:
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


def _streams() -> list[Description]:
    """What the relay sends, asked for only to describe it; nothing of NATS is imported before."""
    from dms.adapters.nats import description

    return [description.part()]
