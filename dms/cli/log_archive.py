"""`nunet archive`: old events in compressed files beside the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.failure import say
from dms.cli.text import moment

if TYPE_CHECKING:
    from dms.cli.output import Column

STEP_SECONDS = 300.0  # one file is written and its events leave the database


def add_to(cli: Group) -> None:
    group = Group(
        "archive",
        help="Keep old events in compressed files. Every command still reads them.",
        example="nunet archive list",
    )
    cli.add_command(group)

    @command(group, "list", "nunet archive list\nnunet archive list -o json")
    @pass_state
    def list_archive(state: State) -> None:
        """List the archive's files: the positions in each, and whether it is intact.

        Each can be checked on its own, anywhere: nunet audit verify --export FILE.
        """
        columns: list[Column] = [
            ("FIRST", "first"),
            ("LAST", "last"),
            ("NEWEST", lambda row: moment(row["newest"])),
            ("BYTES", "size_bytes"),
            ("STATE", "state"),
            ("FILE", "file"),
        ]
        state.output.rows(list(state.api().items("/archive")), columns, empty="nothing is archived")

    @command(group, "run", "nunet archive run --older-than 90")
    @click.option(
        "--older-than",
        type=click.FloatRange(0, 36_500),
        metavar="DAYS",
        help="Minimum age of the events  [default: eventlog.archive_after_days].",
    )
    @pass_state
    def run(state: State, older_than: float | None) -> None:
        """Move old events to compressed files now. The daemon does this once a day if eventlog.archive_after_days is
        set.

        Jobs, deployments and transfers that have ended leave the database, and their space is reused.
        """
        api = state.api()
        files = rows = 0
        body = {} if older_than is None else {"older_than_days": older_than}
        while True:
            step = api.post("/archive/run", body, timeout_seconds=STEP_SECONDS)
            files, rows = files + (step["segment"] is not None), rows + step["rows_removed"]
            if step["segment"] is not None:
                say(f"positions {step['segment']['first']} to {step['segment']['last']}: {step['segment']['file']}")
            if not step["more"]:
                break
        found = {"files_written": files, "rows_removed": rows, "first_position": step["first_position"]}
        if not state.output.for_people:
            state.output.record(found)
        elif files:
            click.echo(f"the database's first position is {found['first_position']} now, {rows} events left it")
        else:
            click.echo("no events are that old" + (f"; {rows} left the database" if rows else ""))
