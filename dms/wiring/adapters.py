"""Adapters that need little more than their settings."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dms.adapters.eventlog.durable_log import DurableEventLog
from dms.adapters.funding.ledger import LedgerCheck
from dms.adapters.funding.rpc import node_address
from dms.adapters.funding.trust import TrustCheck
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from dms.application.loops import Loops
from dms.application.ports.funding import FundingCheck
from dms.config import Eventlog, Funding, Settings
from dms.disk import make_folder, unusable
from dms.errors import ConfigError
from dms.wiring.overrides import Overrides

if TYPE_CHECKING:
    from dms.adapters.nats.relay import NatsRelay
    from dms.adapters.tracing.tracer import Tracer

log = logging.getLogger("dms")


def folder_at(path: Path) -> Path:
    try:
        return make_folder(path)
    except OSError as error:
        readonly = error.errno == errno.EROFS
        allow = ", or allow it to the service with ReadWritePaths= (docs/install.md)" if readonly else ""
        text = f"folder {path} can't be made: {error.strerror}; set another in the configuration{allow}"
        raise unusable(text, error) from error


def check_event_log(settings: Eventlog) -> None:
    """Raises ConfigError."""
    if settings.url:
        raise ConfigError("eventlog.url: this version keeps its log in general.data_dir; leave the setting empty")


def build_event_log(settings: Settings, overrides: Overrides, loops: Loops) -> DurableEventLog:
    check_event_log(settings.eventlog)
    return DurableEventLog(overrides.recorder(settings.events_db), overrides.now, loops=loops)


def build_network(settings: Settings, identity: Identity, loops: Loops) -> Libp2pNetwork:
    return Libp2pNetwork(identity, settings.p2p, loops=loops, remembered=settings.general.data_dir / "peers.json")


def build_funding_check(settings: Funding, now: Callable[[], int]) -> FundingCheck:
    """Raises ConfigError."""
    check_funding(settings)
    return TrustCheck() if settings.check == "trust" else LedgerCheck(settings, now)


def check_funding(settings: Funding) -> None:
    """Raises ConfigError when what it needs is not set."""
    if settings.check == "trust":
        return
    for name, value in (("rpc_url", settings.rpc_url), ("chain_id", settings.chain_id)):
        if not value:
            raise ConfigError(f"funding.check is ledger, which needs funding.{name}")
    node_address(settings.rpc_url)


def build_relay(
    settings: Settings, event_log: DurableEventLog, peer_id: str, loops: Loops | None = None
) -> NatsRelay | None:
    """Nothing of NATS is imported unless it is set up."""
    if not settings.nats.url:
        return None
    from dms.adapters.nats.relay import NatsRelay

    return NatsRelay(event_log, peer_id, settings.nats, settings.general.data_dir / "nats-relay.json", loops)


def build_tracer(
    settings: Settings, event_log: DurableEventLog, peer_id: str, loops: Loops | None = None
) -> Tracer | None:
    """Only where the standard variables of OpenTelemetry name a collector; they are set for a whole
    machine at times, so a missing extra is no reason not to start."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    off = os.environ.get("OTEL_SDK_DISABLED", "").casefold() == "true"
    if off or os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp" or not any(os.environ.get(n) for n in names):
        return None
    try:
        from dms.adapters.tracing.tracer import Tracer
    except ImportError as error:
        why = f"{error}; they need an installation with pip, with the extra nunet-dms[otel]"
        log.warning("no traces are sent: %s", why, extra={"action": "traces_off"})
        return None
    return Tracer(event_log, peer_id, settings.general.data_dir / "traces.position", loops=loops)
