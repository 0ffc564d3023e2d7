"""A job as one line of the list: which columns there are, and what stands in them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from msgspec import Struct
from rich.text import Text

from dms.cli.glyphs import Glyphs
from dms.cli.text import cell, clock
from dms.cli.top.board import OPEN, Use
from dms.cli.top.choice import Side
from projections.jobs import JobRow

SHORT_ID = 13  # characters: the time in a job's id to the millisecond, which `nunet job` takes for the whole
LAST = 16  # what the last column has at least, or a column before it is left out


class Shown(Struct, frozen=True):
    """What the columns are made from. now_us: Unix time. core_mhz: of each core of this machine."""

    row: JobRow
    use: Use | None
    now_us: int
    core_mhz: float


class Column(Struct, frozen=True):
    """spare: the higher, the sooner it is left out where there is no room; 0: never."""

    name: str
    width: int
    text: Callable[[Shown], str]
    spare: int = 0


def short_id(job_id: str) -> str:
    return cell(job_id)[:SHORT_ID]


def short_peer(peer: str) -> str:
    """The first of them are alike."""
    text = cell(peer)
    return text if len(text) <= 12 else f"{text[:4]}..{text[-6:]}"


def elapsed(shown: Shown) -> str:
    """Since it started, or since it was asked for; in all, of one that is over."""
    row = shown.row
    if row.status not in OPEN:
        return clock(row.duration_seconds or _seconds(row.started_at, row.ended_at))
    return clock(_seconds(row.started_at or row.requested_at, shown.now_us))


def left(shown: Shown) -> str:
    """Of the time that it may run; when it ended, of one that is over."""
    row = shown.row
    if row.status not in OPEN:
        return datetime.fromtimestamp(row.ended_at / 1e6, UTC).astimezone().strftime("%H:%M") if row.ended_at else ""
    run = _seconds(row.started_at, shown.now_us) if row.started_at else 0.0
    return clock(row.minutes * 60 - run)


def cpu(shown: Shown) -> str:
    """Used, where that is known, of what was asked for."""
    asked = f"{shown.row.cpu_mhz:,}"
    cores = shown.use.cpu_cores if shown.use else None
    return asked if cores is None else f"{cores * shown.core_mhz:,.0f}/{asked}"


def memory(shown: Shown) -> str:
    asked = f"{shown.row.memory_mb:,}"
    return asked if shown.use is None else f"{shown.use.memory_mb:,}/{asked}"


def about(shown: Shown) -> str:
    """Of the image, and why it is where it is."""
    row = shown.row
    image = cell(row.image, 80)
    tried = f"attempt {row.attempt} of {row.attempts}" if row.failed_attempts else ""
    return "  ".join(part for part in (cell(row.reason), tried, image) if part)


def cost(shown: Shown) -> str:
    return cell(shown.row.price, 20)


_ID = Column("JOB", SHORT_ID, lambda shown: short_id(shown.row.job_id))
COLUMNS = {
    Side.PROVIDER: (
        _ID,
        Column("FOR", 12, lambda shown: short_peer(shown.row.peer), spare=3),
        Column("CPU MHz", 12, cpu, spare=1),
        Column("MEMORY MB", 12, memory, spare=2),
        Column("TIME", 8, elapsed, spare=4),
        Column("LEFT/END", 8, left),
        Column("NTX", 10, cost, spare=5),
    ),
    Side.REQUESTER: (
        _ID,
        Column("PROVIDER", 12, lambda shown: short_peer(shown.row.peer), spare=1),
        Column("TIME", 8, elapsed),
        Column("LEFT/END", 8, left, spare=3),
        Column("NTX", 10, cost, spare=2),
    ),
}
STATE_WIDTH = 12


def columns_for(side: Side, columns: int) -> tuple[Column, ...]:
    """Those for which a terminal of that width has room."""
    found = list(COLUMNS[side])
    while sum(column.width + 1 for column in found) + STATE_WIDTH + 1 + LAST > columns:
        droppable = max(found, key=lambda column: column.spare)
        if not droppable.spare:
            break
        found.remove(droppable)
    return tuple(found)


def heading(side: Side, columns: int) -> Text:
    names = [f"{column.name:<{column.width}}" for column in columns_for(side, columns)]
    return Text(" ".join((f"{'STATE':<{STATE_WIDTH}}", *names, "REASON, IMAGE")), style="bold underline")


def job_line(shown: Shown, side: Side, columns: int, glyphs: Glyphs) -> Text:
    row = shown.row
    sign, style = state_of(row, glyphs)
    word = "no contact" if row.unreachable and row.status in OPEN else cell(row.status, STATE_WIDTH)
    line = Text(_fitted(f"{sign} {word}", STATE_WIDTH), style=style)
    over = row.status not in OPEN
    for column in columns_for(side, columns):
        line.append(" ").append(_fitted(column.text(shown), column.width), style="dim" if over else "")
    line.append(" ").append(about(shown), style="dim" if over else "")
    return line


def state_of(row: JobRow, glyphs: Glyphs) -> tuple[str, str]:
    """(sign, style). What has been is paler than what is."""
    if row.unreachable and row.status in OPEN:
        return glyphs.lost, "bold yellow"
    match row.status:
        case "running":
            return glyphs.running, "bold cyan"
        case "completed":
            return glyphs.completed, "green"
        case "failed" | "rejected":
            return glyphs.failed, "red"
        case "stopped" | "expired":
            return glyphs.stopped, "dim"
    return glyphs.waiting, "yellow"


def _seconds(start_us: int, end_us: int) -> float:
    return max(0, end_us - start_us) / 1e6 if start_us and end_us else 0.0


def _fitted(text: str, width: int) -> str:
    fitted = Text(text)
    fitted.truncate(width, pad=True)
    return fitted.plain
