"""The log and what is made from it: `nunet projection`, `nunet audit`."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import click

from dms.cli.core import Exit, Failure, Group, State, command, pass_state, say
from dms.cli.text import in_path
from dms.errors import LogCorrupt


def add_to(cli: Group) -> None:
    _add_projections(cli)
    _add_audit(cli)


def _add_projections(cli: Group) -> None:
    group = Group("projection", help="The views that are made from the log.", example="nunet projection list")
    cli.add_command(group)

    @command(group, "list", "nunet projection list")
    @pass_state
    def list_projections(state: State) -> None:
        """List the views, and how far each has come."""
        rows = state.api().get("/projections")["items"]
        state.output.rows(rows, [("NAME", "name"), ("POSITION", "position"), ("BEHIND", "behind")])

    @command(group, "rebuild", "nunet projection rebuild jobs")
    @click.argument("view")
    @pass_state
    def rebuild(state: State, view: str) -> None:
        """Empty a view and make it anew from the first event on."""
        answer = state.api().post(f"/projections/{in_path(view)}/rebuild")
        say(f"view {view} was rebuilt")
        state.output.record(answer)


def _add_audit(cli: Group) -> None:
    group = Group("audit", help="Check the history.", example="nunet audit verify")
    cli.add_command(group)

    @command(group, "verify", "nunet audit verify\nnunet audit verify --database /var/nunet/events.db")
    @click.option(
        "--database", type=click.Path(path_type=Path, dir_okay=False),
        help="Log file to check  [default: events.db of this machine's DMS].",
    )  # fmt: skip
    @pass_state
    def verify(state: State, database: Path | None) -> int:
        """Recompute the hash chain of an event log. The daemon may run, or not.

        Exit code 1 and the first wrong position when anything in it was changed, removed or put in between.
        """
        path = database or state.load().settings.events_db
        if not path.is_file():
            raise Failure(f"{path}: there is no such log", Exit.NOT_FOUND, "name it with --database")
        events, fault = checked(path)
        report = {"database": str(path), "intact": not fault, "events": events, "fault": fault}
        if not state.output.for_people:
            state.output.record(report)
        elif not fault:
            click.echo(f"intact: the hash chain of all {events} events in {path} fits")
        if fault:
            raise Failure(f"{path} does not verify: {fault}")
        return Exit.OK


def checked(path: Path) -> tuple[int, str]:
    """(the position up to which all is right, what is wrong behind it: empty for nothing)."""
    from dms.bootstrap import verify

    reached, shown = 0, False
    try:
        for reached in verify(path):
            if sys.stderr.isatty():
                click.echo(f"\r{reached} events", err=True, nl=False)
                shown = True
    except LogCorrupt as error:
        return reached, str(error)
    except sqlite3.Error as error:
        raise Failure(f"{path} can't be read as an event log: {error}") from error
    finally:
        if shown:
            click.echo("\r\x1b[K", err=True, nl=False)
    return reached, ""
