"""One frame: what there is now, as lines or as data."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec
from rich.text import Text

from dms.cli.client import Api
from dms.cli.glyphs import Glyphs
from dms.cli.top import live
from dms.cli.top.board import OPEN, Board
from dms.cli.top.choice import Choice, Side
from dms.cli.top.frame import Link, Scene, job_lines, summary, title
from projections.jobs import JobRow

MOST_ENDED = 50  # in the data; `nunet job list` has the others


def read(api: Api, choice: Choice, glyphs: Glyphs | None = None) -> Scene:
    """Raises Failure."""
    board = Board()
    with live.connected(api) as connection:
        snapshot = live.read_jobs(api, connection.position)
    board.begin(snapshot.rows, snapshot.position)
    board.machine, board.peers = live.read_machine(api), live.read_peers(api)
    now = time.monotonic()
    return Scene(
        board=board,
        choice=choice,
        link=Link(connected=True, heard_at=now),
        now_us=time.time_ns() // 1000,
        now_seconds=now,
        glyphs=glyphs or Glyphs(),
    )


def lines_of(scene: Scene, columns: int, most_jobs: int) -> list[Text]:
    return [title(scene, columns), *summary(scene, columns), *job_lines(scene, columns, most_jobs)]


def data_of(scene: Scene, side: Side | None) -> dict[str, Any]:
    """Amounts: MHz and MB; NTX as decimal text. jobs: those that are open, then the newest of the others; of one side
    alone where one was asked for."""
    board = scene.board
    machine: dict[str, Any] = msgspec.to_builtins(board.machine)
    rows = [row for row in board.jobs.values() if side is None or row.role == side.role]
    rows.sort(key=lambda row: -(row.ended_at or row.requested_at))
    open_ones, ended = ([row for row in rows if (row.status in OPEN) is wanted] for wanted in (True, False))
    return {
        "position": board.position,
        "machine": machine,
        "peers": msgspec.to_builtins(board.peers),
        "jobs": list(_shown((*open_ones, *ended[:MOST_ENDED]))),
    }


def _shown(rows: Iterable[JobRow]) -> Iterable[dict[str, Any]]:
    """As `nunet job list` has them, but for what only the daemon knows."""
    for row in rows:
        shown: dict[str, Any] = msgspec.to_builtins(row)
        del shown["timeline"]
        yield shown
