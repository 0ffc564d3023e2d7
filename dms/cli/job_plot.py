"""`nunet job plot`: the figures that a job prints, as curves in the terminal."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.failure import Failure
from dms.cli.references import job_argument
from dms.cli.text import in_path, printable
from dms.errors import Exit

NARROWEST, LOWEST = 30, 6


def add_to(group: Group) -> None:
    @command(group, "plot", "nunet job plot @last --name loss")
    @click.option("--name", "names", multiple=True, metavar="NAME", help="Only this figure; may be repeated.")
    @click.option("--width", type=click.IntRange(NARROWEST, 500), help="In characters  [default: the terminal's].")
    @click.option(
        "--height", type=click.IntRange(LOWEST, 200), default=16, show_default=True, help="In lines, of each."
    )
    @pass_state
    @job_argument
    def plot_metrics(state: State, *, job_id: str, names: tuple[str, ...], width: int | None, height: int) -> None:
        """Plot the figures that a job prints in lines such as `dms-metric loss=0.25 step=100`.

        With -o json the values themselves are printed.
        """
        found = state.api().get(f"/jobs/{in_path(job_id)}/metrics")
        series = [one for one in found["series"] if not names or one["name"] in names]
        if not series:
            hint = "a job prints them in lines such as: dms-metric loss=0.25 step=100"
            named = f" called {' or '.join(names)}" if names else ""
            raise Failure(f"job {job_id} has printed no figures{named}", Exit.NOT_FOUND, hint)
        if not state.output.for_people:
            state.output.record({**found, "series": series})
            return
        columns = width or max(NARROWEST, shutil.get_terminal_size((80, 24)).columns - 1)
        for number, one in enumerate(series):
            if number:
                click.echo()
            _show(one, columns, height)


def _show(series: Mapping[str, Any], width: int, height: int) -> None:
    from dms.cli.plot import plot, shows_braille

    points = [(float(point["step"]), float(point["value"])) for point in series["points"]]
    click.echo(f"{printable(series['name'])}: {points[-1][1]:g} at step {points[-1][0]:g}, {series['count']} values")
    for line in plot(points, width, height, braille=shows_braille()):
        click.echo(line.rstrip())
