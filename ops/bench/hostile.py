"""`python -m ops.bench hostile`: what thirty hostile images leave of the host, in the engine's runtime and in gVisor:
its disk, processes and sockets before, at most meanwhile, and afterwards, and what its API takes to answer. Ends with 1
when something is not as it was, or an image got what it wanted. Needs root, Docker and runsc.

The engine is one of its own, with a disk, a network namespace and processes for itself, so that nothing else on the
machine is counted. The load is that of the whole machine."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tests.fixtures.engine import own_engine
from tests.fixtures.host_state import HostState
from tests.fixtures.hostile_images import DISK_MB, MIB, Run, run_hostile
from tests.fixtures.hostile_kinds import IMAGES, at, in_gvisor

COLUMNS = ("images in", "what", "before", "at most meanwhile", "afterwards", "")


def main() -> int:
    table, fine = Table(*COLUMNS), True
    for gvisor in (False, True):
        run, load = _run(gvisor=gvisor)
        for row in _rows(run, load):
            table.add_row("gVisor" if gvisor else "the engine's runtime", *row[:4], "" if row.good else "NOT KEPT")
            fine = fine and row.good
    Console(width=120).print(table)
    return 0 if fine else 1


def _run(*, gvisor: bool) -> tuple[Run, tuple[float, float]]:
    """And the machine's load before and after."""
    names = in_gvisor(everything=True) if gvisor else {image.name for image in IMAGES}
    with (
        socket.create_server(("", 0), backlog=64) as listening,
        tempfile.TemporaryDirectory() as folder,
        own_engine(gvisor=gvisor, disk_mb=DISK_MB) as engine,
    ):
        images = [at(image, listening.getsockname()[1]) for image in IMAGES if image.name in names]
        before = os.getloadavg()[0]
        run = asyncio.run(run_hostile(images, Path(folder), engine, "runsc" if gvisor else "default"))
        return run, (before, os.getloadavg()[0])


class Row(NamedTuple):
    what: str
    before: str
    most: str
    after: str
    good: bool = True


def _rows(run: Run, load: tuple[float, float]) -> list[Row]:
    got = [line for seen in run.seen.values() for line in seen.lines if line.startswith("GOT")]
    return [
        _row("disk in use, MiB", run, lambda state: f"{state.disk_bytes / MIB:.2f}", good=run.disk_is_kept),
        _row("processes", run, lambda state: str(state.processes), good=run.processes_are_kept),
        _row("of these runnable", run, lambda state: str(state.runnable)),
        _row("sockets in the network", run, lambda state: str(state.network), good=run.sockets_are_kept),
        _row("local sockets", run, lambda state: str(state.local), good=run.sockets_are_kept),
        Row("load of the machine", f"{load[0]:.1f}", "", f"{load[1]:.1f}"),
        Row("API: median, ms", _ms(median(run.quiet)), _ms(median(run.meanwhile)), ""),
        Row("API: 99 of 100 within, ms", _ms(_p99(run.quiet)), _ms(_p99(run.meanwhile)), ""),
        Row(f"what {len(run.seen)} images got", "", str(len(got)), f"{len(run.left)} left", not got and not run.left),
    ]


def _row(what: str, run: Run, shown: Callable[[HostState], str], *, good: bool = True) -> Row:
    return Row(what, shown(run.before), shown(run.most), shown(run.after), good)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def _p99(seconds: Sequence[float]) -> float:
    return quantiles(seconds, n=100)[-1]
