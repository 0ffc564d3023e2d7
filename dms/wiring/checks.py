"""What of the settings ends the daemon at its start, whatever is on the disk: told before anything is made."""

from __future__ import annotations

from pathlib import Path

from dms.adapters.http import tls
from dms.adapters.http.exposure import check_tls
from dms.adapters.p2p.addresses import announceable, listenable, read_bootstrap
from dms.config import Job, Nats, P2p, Rest, Settings
from dms.wiring.adapters import check_event_log, check_funding
from dms.wiring.base import input_networks
from dms.wiring.engine import gateway_settings, sandbox_accept


def check_settings(settings: Settings) -> None:
    """Reads the files that they name, makes and changes nothing. Raises ConfigError."""
    check_event_log(settings.eventlog)
    _check_rest(settings.rest)
    _check_p2p(settings.p2p)
    _check_job(settings.job)
    check_funding(settings.funding)
    _check_nats(settings.nats)


def _check_rest(rest: Rest) -> None:
    check_tls(rest)
    if rest.tls_cert:
        tls.check_files(Path(rest.tls_cert), Path(rest.tls_key))


def _check_p2p(p2p: P2p) -> None:
    listenable(p2p.listen_address)
    announceable(p2p.announce_address)
    for address in p2p.bootstrap_peers:
        read_bootstrap(address)


def _check_job(job: Job) -> None:
    input_networks(job)
    gateway_settings(job)
    sandbox_accept(job)


def _check_nats(nats: Nats) -> None:
    if nats.url:
        from dms.adapters.nats import connection  # who has no server imports nothing of NATS

        connection.check(nats)
