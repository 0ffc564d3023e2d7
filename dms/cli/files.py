"""`nunet send-file`, `nunet accept-file`, `nunet file`: files between this node's users and those of peers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.failure import Failure, say
from dms.cli.text import printable
from dms.errors import Exit

POLL_SECONDS = 0.5
OFFER_SECONDS = 3600.0  # the daemon reads a large file for its digest before it answers
OPEN = ("offered", "accepted")
Row = Mapping[str, Any]
COLUMNS = (
    ("ID", lambda row: "" if row["stream_id"] is None else row["stream_id"]),
    ("Transfer", "transfer_id"),
    ("Direction", "direction"),
    ("State", "state"),
    ("Name", "name"),
    ("Bytes", "size_bytes"),
    ("Done", lambda row: f"{100 * row['done_bytes'] // row['size_bytes'] if row['size_bytes'] else 100} %"),
    ("Peer", "peer_id"),
)


def add_to(cli: Group) -> None:
    @command(cli, "send-file", "nunet send-file 12D3KooW... results.tar.gz")
    @click.argument("peer")
    @click.argument("path", type=click.Path(path_type=Path))
    @click.argument("transfer_type", required=False, type=click.Choice(["0", "1"]), metavar="")
    @click.option("--no-wait", is_flag=True, help="Don't wait; print the transfer's id.")
    @pass_state
    def send_file(state: State, peer: str, path: Path, transfer_type: str | None, no_wait: bool) -> None:
        """Offer the file PATH to the user of PEER, and wait until it has arrived. The transfer continues if this
        command is interrupted."""
        del transfer_type  # the original took one, and never used it
        api = state.api()
        body = {"peerid": peer, "filepath": str(path.absolute())}
        transfer = api.post("/peers/file/send", body, timeout_seconds=OFFER_SECONDS)
        if not no_wait:
            say(f"offered as transfer {transfer['transfer_id']}; it begins when the peer accepts it")
        _finish(state, transfer, no_wait=no_wait)

    @command(cli, "accept-file", "nunet accept-file\nnunet accept-file 1")
    @click.argument("offer", default="0")
    @click.option("--no-wait", is_flag=True, help="Don't wait; print the transfer's id.")
    @pass_state
    def accept_file(state: State, offer: str, no_wait: bool) -> None:
        """Accept the file OFFER (an id from `nunet file list`; by default the oldest) and wait until it has arrived."""
        transfer = state.api().post("/peers/file/accept", {"streamid": offer})
        _finish(state, transfer, no_wait=no_wait)

    group = Group("file", help="Files sent to and received from peers.", example="nunet file list")
    cli.add_command(group)

    @command(group, "list", "nunet file list\nnunet file list --all -o jsonl")
    @click.option("-a", "--all", "everything", is_flag=True, help="Include transfers that have ended.")
    @pass_state
    def list_files(state: State, everything: bool) -> None:
        """List the files that are waiting or in transfer. `nunet accept-file` takes the ID."""
        rows = list(state.api().items("/peers/files", state="" if everything else ",".join(OPEN), limit=1000))
        state.output.rows(rows, COLUMNS, "no files wait or are on their way")

    @command(group, "clear", "nunet file clear")
    @pass_state
    def clear(state: State) -> None:
        """Refuse all waiting offers."""
        answer = state.api().post("/peers/file/clear")
        if state.output.for_people:
            click.echo(printable(answer["message"]))
        else:
            state.output.record(answer)

    @command(group, "cancel", "nunet file cancel 01990000-0000-7000-8000-000000000001")
    @click.argument("transfer_id", metavar="TRANSFER")
    @pass_state
    def cancel(state: State, transfer_id: str) -> None:
        """Cancel a transfer on both sides."""
        state.output.record(state.api().delete(f"/peers/files/{transfer_id}"))


def _finish(state: State, transfer: Row, *, no_wait: bool) -> None:
    """Waits, shows, and ends with the transfer's outcome."""
    if not no_wait:
        transfer = _waited_for(state, transfer)
    if not state.output.for_people:
        state.output.record(transfer)
    elif no_wait:
        click.echo(transfer["transfer_id"])
    if transfer["state"] in ("failed", "cancelled"):
        code = Exit.DENIED if transfer["state"] == "cancelled" else Exit.FAILURE
        raise Failure(f"transfer {transfer['state']}: {transfer['reason']}", code)
    if state.output.for_people and not no_wait:
        click.echo(printable(f"File saved to: {transfer['saved_as']}" if transfer["saved_as"] else "transfer complete"))


def _waited_for(state: State, transfer: Row) -> Row:
    """The transfer when it is over. With -o jsonl each look at it is a line."""
    api, path = state.api(), f"/peers/files/{transfer['transfer_id']}"
    try:
        with _bar(state, transfer) as show:
            while transfer["state"] in OPEN:
                time.sleep(POLL_SECONDS)
                before, transfer = transfer, api.get(path)
                if state.output.kind == "jsonl" and transfer["state"] in OPEN and transfer != before:
                    state.output.line(transfer)
                show(transfer)
    except KeyboardInterrupt:
        say(f"the transfer goes on; stop it with: nunet file cancel {transfer['transfer_id']}")
        raise
    return transfer


@contextmanager
def _bar(state: State, transfer: Row) -> Iterator[Callable[[Row], None]]:
    """A bar on a terminal's standard error; else nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True, no_color=not state.colour)
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(printable(transfer["name"]), total=transfer["size_bytes"])
        yield lambda now: progress.update(task, completed=now["done_bytes"])
