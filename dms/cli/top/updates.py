"""What the feed tells the view."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from dms.cli.top.board import Machine, Peer, Use
from dms.domain.event import Fact
from projections.jobs import JobRow


class Snapshot(Struct, frozen=True):
    """All jobs as they were at a position, or later."""

    rows: Sequence[JobRow]
    position: int


class Happened(Struct, frozen=True):
    fact: Fact


class Reached(Struct, frozen=True):
    """Everything up to the position was told."""

    position: int


class MachineRead(Struct, frozen=True):
    machine: Machine


class PeersRead(Struct, frozen=True):
    peers: tuple[Peer, ...]


class Used(Struct, frozen=True):
    job_id: str
    use: Use


class Printed(Struct, frozen=True):
    """Lines of a job's output, which follow on those before, or begin it anew. note: what is missing before them."""

    job_id: str
    lines: tuple[tuple[str, str], ...]  # (stream, text)
    note: str = ""
    begins: bool = False


class Connected(Struct, frozen=True):
    """From here on it is live."""


class Lost(Struct, frozen=True):
    """There is no connection; another one is tried."""

    why: str


Update = Snapshot | Happened | Reached | MachineRead | PeersRead | Used | Printed | Connected | Lost
