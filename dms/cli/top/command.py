"""`nunet top`: what this node does, live in the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import click

from dms.cli.core import Command, Group, State, command, pass_state
from dms.cli.failure import Failure
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.cli.client import Api
    from dms.cli.top.choice import Side

MOST_ROWS = 50  # of jobs in one frame that is printed


def add_to(cli: Group) -> None:
    _add_top(cli)


def _add_top(cli: Group) -> Command:
    @command(cli, "top", "nunet top\nnunet top --side requester\nnunet top --once -o json")
    @click.option(
        "--side",
        type=click.Choice(["provider", "requester"]),
        help="Whose view comes first  [default: provider, where this machine is onboarded].",
    )
    @click.option("--once", is_flag=True, help="Print one frame and end; with -o json, the same as data.")
    @pass_state
    def top(state: State, side: str | None, once: bool) -> None:
        """Watch live what this machine runs for others, and the jobs that it asked others for.

        As a provider: what is held and free, whether jobs are taken, what is to be claimed, the peers, and
        the jobs. As a requester: the jobs with their provider, time and price. ? shows the keys, q ends it.
        """
        if not state.output.for_people:
            _print_data(state, side)
        elif once:
            _print_frame(state, side)
        else:
            _watch(state, side)

    return top


def _watch(state: State, side: str | None) -> None:
    from dms.cli.glyphs import glyphs_for
    from dms.cli.top.app import App
    from dms.cli.top.choice import Choice
    from dms.cli.top.screen import Screen

    if not _is_terminal():
        raise Failure(
            "the live view needs a terminal", Exit.USAGE, "one frame: nunet top --once    as data: nunet top -o json"
        )
    api = state.api()
    choice = Choice(side=_side(api, side))
    App(api, Screen(colour=state.colour), choice, glyphs_for(sys.stdout.encoding)).run()


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


def _side(api: Api, asked: str | None) -> Side:
    """Raises Failure where no daemon answers, and for a side that it does not show: there is nothing to watch."""
    from dms.cli.top.choice import Side

    try:
        onboarded = bool(api.get("/onboarding/status")["onboarded"])
    except Failure as failure:
        if failure.code is not Exit.DENIED or asked == Side.PROVIDER:
            raise
        api.get("/capacity")  # which every role sees: a token that is none is refused here
        onboarded = False
    return Side(asked) if asked else Side.PROVIDER if onboarded else Side.REQUESTER


def _print_frame(state: State, asked: str | None) -> None:
    from dms.cli.glyphs import glyphs_for
    from dms.cli.top.choice import Choice
    from dms.cli.top.once import lines_of, read
    from dms.cli.top.screen import styled

    columns = shutil.get_terminal_size((80, 24)).columns
    api = state.api()
    scene = read(api, Choice(side=_side(api, asked)), glyphs_for(sys.stdout.encoding))
    coloured = state.colour and sys.stdout.isatty()
    for line in lines_of(scene, columns, MOST_ROWS):
        click.echo(styled(line, columns, colour=state.colour) if coloured else line.plain.rstrip())


def _print_data(state: State, asked: str | None) -> None:
    from dms.cli.top.choice import Choice
    from dms.cli.top.once import data_of, read

    api = state.api()
    side = _side(api, asked)
    state.output.record(data_of(read(api, Choice(side=side)), side if asked else None))
