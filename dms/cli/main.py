"""The command `nunet`."""

from __future__ import annotations

import signal

import click

from dms.cli import (
    chat,
    checkpoints,
    daemon,
    dashboard,
    device,
    doctor,
    earnings,
    erasure,
    events,
    files,
    gpu,
    jobs,
    key,
    log_archive,
    peers,
    policy,
    records,
    replay,
    settings,
    support,
    token,
    transactions,
    usage,
    wallet,
)
from dms.cli.core import Root, shared_options
from dms.cli.top import command as top

HELP = """Run and use a Device Management Service (DMS): ask other machines to run container jobs, or offer this one.

Data goes to standard output, all else to standard error.

\b
Exit codes: 0 ok, 1 failure, 2 wrong usage, 3 not found, 4 denied, 5 conflict,
6 no provider fits, 7 the daemon can't be reached, 8 `run`: the event log is
damaged, 124 timed out, 125 the job never started, 130 interrupted, 141 the
output's pipe was closed. `job run --wait` exits with the job's own code.
"""


def _version_option() -> click.Option:
    def show(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            from importlib.metadata import version

            click.echo(f"nunet {version('nunet-dms')}")
            context.exit()

    return click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=show, help="Show the version."
    )


cli = Root(
    "nunet",
    help=HELP,
    example="nunet job run job.json --tx-hash <hash> --wait",
    params=[*shared_options(), _version_option()],
    no_args_is_help=True,
)
for module in (
    daemon,
    settings,
    device,
    doctor,
    policy,
    usage,
    gpu,
    wallet,
    peers,
    chat,
    files,
    jobs,
    checkpoints,
    transactions,
    earnings,
    events,
    erasure,
    token,
    key,
    log_archive,
    records,
    replay,
    dashboard,
    support,
    top,
):
    module.add_to(cli)


def main() -> None:
    """Never returns: exits with one of the codes above."""
    try:
        cli.main(prog_name="nunet")
    finally:  # what is left takes a moment; Ctrl-C in it would show a traceback, and change the code
        signal.signal(signal.SIGINT, signal.SIG_IGN)
