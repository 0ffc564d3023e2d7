"""`nunet run`."""

from __future__ import annotations

import logging

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.failure import Failure
from dms.errors import AddressUnavailable, ConfigError, DmsError, Exit, LogCorrupt

SETTINGS = {  # option: the setting it gives a value to
    "rest_addr": "rest.addr",
    "rest_port": "rest.port",
    "data_dir": "general.data_dir",
    "work_dir": "general.work_dir",
    "listen": "p2p.listen_address",
    "announce": "p2p.announce_address",
    "bootstrap": "p2p.bootstrap_peers",
    "mdns": "p2p.mdns",
    "executor": "job.executor",
    "target_peer": "job.target_peer",
    "eventlog_url": "eventlog.url",
    "nats_url": "nats.url",
    "debug": "general.debug",
}


def add_to(cli: Group) -> None:
    @command(
        cli,
        "run",
        "nunet run --rest-port 9999 --data-dir /var/nunet --set job.funding_window=5m",
    )
    @click.option("--rest-addr", metavar="ADDR", help="Address for the API.")
    @click.option("--rest-port", metavar="PORT", help="Port for the API.")
    @click.option("--data-dir", metavar="DIR", help="Folder of the event log, job logs and checkpoints.")
    @click.option("--work-dir", metavar="DIR", help="Folder of the node's key.")
    @click.option("--listen", metavar="MULTIADDR", multiple=True, help="Address where peers connect. Can be repeated.")
    @click.option("--announce", metavar="MULTIADDR", multiple=True, help="Address to tell peers instead (behind NAT).")
    @click.option("--bootstrap", metavar="MULTIADDR", multiple=True, help="Peer to connect to first. Can be repeated.")
    @click.option("--mdns/--no-mdns", default=None, help="Find peers on the local network.")
    @click.option("--executor", metavar="KIND", help="How jobs run: auto, docker or process.")
    @click.option("--target-peer", metavar="PEER", help="Provider of the requests that name none.")
    @click.option(
        "--eventlog-url",
        metavar="URL",
        help="Where the event log is kept. Only empty (SQLite in the data folder) works in this version.",
    )
    @click.option("--nats-url", metavar="URL", help="NATS server to relay events to.")
    @click.option("--debug/--no-debug", default=None, help="More in the log.")
    @click.option(
        "--set",
        "pairs",
        metavar="KEY=VALUE",
        multiple=True,
        help="Set any setting by its name; see `nunet config show`.",
    )
    @pass_state
    def run(state: State, /, pairs: tuple[str, ...], **options: object) -> int:
        """Run the daemon in the foreground until SIGTERM or Ctrl-C.

        Flags override environment variables such as DMS_REST_PORT, which override dms_config.json, which overrides
        the defaults.
        """
        loaded = state.load(overrides(pairs, options))
        try:
            from dms.process import serve

            serve(loaded)
        except DmsError as error:
            return _code_of(error)
        except Exception as error:  # the process's outermost place: where it happened belongs in the journal
            logging.getLogger("dms").exception("the daemon failed unexpectedly", extra={"action": "failed"})
            raise Failure(f"the daemon failed: {type(error).__name__}: {error}") from error
        return Exit.OK


def _code_of(error: DmsError) -> Exit:
    """What no restart mends has codes of its own, which the service's RestartPreventExitStatus names."""
    if isinstance(error, LogCorrupt):
        return Exit.DAMAGED
    lasting = isinstance(error, ConfigError) and not isinstance(error, AddressUnavailable)
    return Exit.USAGE if lasting else Exit.FAILURE


def overrides(pairs: tuple[str, ...], options: dict[str, object]) -> dict[str, str]:
    """Dotted key -> text. Raises Failure for a pair without `=`."""
    import json

    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise Failure(f"--set {pair}: expected KEY=VALUE", Exit.USAGE, "for example --set rest.port=9998")
        found[key.strip()] = value
    for name, given in options.items():
        if isinstance(given, tuple):
            if given:
                found[SETTINGS[name]] = json.dumps(given)
        elif given is not None:
            found[SETTINGS[name]] = str(given).lower() if isinstance(given, bool) else str(given)
    return found
