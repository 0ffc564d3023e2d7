"""Builds every object of the daemon once. Wiring only: nothing is started or decided here, or in `dms/wiring`.

An adapter is given its section of the settings; what is worked out from several goes into a struct of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from dms.adapters.eventlog.watch import LogWatch
from dms.adapters.heads.file import HeadFile
from dms.adapters.metadata.file import MetadataFile
from dms.application.deployments.cleanup import Cleaner
from dms.application.files import move_files
from dms.application.files.user_files import Inbox
from dms.application.network.availability import AvailabilityNews
from dms.application.reactors import Reactors
from dms.application.records.heads import HeadExchange
from dms.config import Settings
from dms.daemon import Daemon, Parts, Readiness, Server
from dms.wiring.adapters import build_relay, build_tracer
from dms.wiring.base import SECONDS_A_DAY, Base, build_base
from dms.wiring.checks import check_settings
from dms.wiring.overrides import Overrides
from dms.wiring.server import build_figures, build_server, build_services


async def build(
    settings: Settings, overrides: Overrides | None = None, tell: Callable[[str], None] = lambda _: None
) -> Daemon:
    """All parts made, none started. tell: gets each phase of the start.
    Raises DmsError: AlreadyRunning, LogCorrupt, LogUnavailable, ConfigError."""
    check_settings(settings)
    closing = AsyncExitStack()
    try:
        overrides = overrides or Overrides()
        base = build_base(settings, overrides, closing)
        return Daemon(_build_parts(base, Readiness(base.event_log, base.loops, tell), overrides.server), closing)
    except BaseException:
        await closing.aclose()
        raise


def _build_parts(base: Base, readiness: Readiness, server: Server | None) -> Parts:
    settings, event_log, loops = base.settings, base.event_log, base.loops
    relay = build_relay(settings, event_log, base.identity.peer_id, loops)
    traces = build_tracer(settings, event_log, base.identity.peer_id, loops)
    metadata_file = MetadataFile(event_log, base.views, settings.general.work_dir, loops, base.writes)
    figures = build_figures(base, readiness, relay)
    reactors = Reactors(event_log, loops, writes=base.writes)
    base.network.on_peer(reactors.on_peer)
    head_file = HeadFile(base.data_dir, base.identity.peer_id, base.writes)
    heads = HeadExchange(event_log, base.network, base.identity, head_file, base.now, loops=loops)
    services = build_services(base, readiness, metadata_file, figures, heads, relay)
    interval = settings.job.cleanup_interval * SECONDS_A_DAY
    return Parts(
        settings=settings,
        readiness=readiness,
        services=services,
        event_log=event_log,
        log_watch=LogWatch(event_log, loops),
        views=base.views,
        server=server or build_server(services, base.views, settings),
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
