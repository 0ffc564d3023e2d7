"""What the one who watches has chosen: whose view, in which order, which jobs, which of them is selected. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from dms.cli.top import keys
from dms.cli.top.board import OPEN, REQUESTED, RUN_HERE
from projections.jobs import JobRow

LONGEST_FILTER = 64


class Side(StrEnum):
    PROVIDER = "provider"
    REQUESTER = "requester"

    @property
    def role(self) -> str:
        return RUN_HERE if self is Side.PROVIDER else REQUESTED

    @property
    def other(self) -> Side:
        return Side.REQUESTER if self is Side.PROVIDER else Side.PROVIDER


class Mode(StrEnum):
    LIST = "list"
    FILTER = "filter"  # a filter is typed
    ASK_STOP = "ask stop"  # a question is open: whether to stop the selected job
    OUTPUT = "output"  # of the selected job
    PEERS = "peers"
    HELP = "help"


ORDERS: Mapping[str, Callable[[JobRow], Any]] = {
    "newest": lambda row: -row.requested_at,
    "price": lambda row: -_number(row.price),
    "running longest": lambda row: row.started_at or row.requested_at,
    "peer": lambda row: row.peer,
}
"""Within those that are open, and within those that are over: the present stands above the past."""


class Choice(Struct, frozen=True, kw_only=True):
    """selected: a job's id; empty: the first one. back: lines that the output is scrolled up from its end."""

    side: Side = Side.PROVIDER
    mode: Mode = Mode.LIST
    order: str = "newest"
    filter: str = ""
    selected: str = ""
    back: int = 0


class Done(Struct, frozen=True):
    """What a key led to. stop, quit: what is to be done about it."""

    choice: Choice
    stop: str = ""
    quit: bool = False


def shown(jobs: Iterable[JobRow], choice: Choice) -> list[JobRow]:
    """The jobs of the list, in its order."""
    words = choice.filter.casefold().split()
    found = [row for row in jobs if row.role == choice.side.role and all(word in _text_of(row) for word in words)]
    order = ORDERS[choice.order]
    found.sort(key=lambda row: row.job_id)
    found.sort(key=lambda row: -(row.ended_at or row.requested_at) if row.status not in OPEN else order(row))
    found.sort(key=lambda row: row.status not in OPEN)
    return found


def selected(rows: Sequence[JobRow], choice: Choice) -> int:
    """The place of the selected job; the first one's when it is not there any more."""
    return next((place for place, row in enumerate(rows) if row.job_id == choice.selected), 0)


def pressed(key: str, choice: Choice, rows: Sequence[JobRow], page: int) -> Done:
    """rows: as `shown`. page: how many of them, or lines of output, are on the screen."""
    handle = _MODES[choice.mode]
    return handle(key, choice, rows, max(1, page))


def _in_list(key: str, choice: Choice, rows: Sequence[JobRow], page: int) -> Done:
    if key in ("q", "Q"):
        return Done(choice, quit=True)
    steps = {keys.UP: -1, "k": -1, keys.DOWN: 1, "j": 1, keys.PAGE_UP: -page, keys.PAGE_DOWN: page}
    steps |= {keys.HOME: -len(rows), "g": -len(rows), keys.END: len(rows), "G": len(rows)}
    if key in steps:
        return Done(_moved(choice, rows, steps[key]))
    if key in (keys.TAB, "v"):
        return Done(replace(choice, side=choice.side.other, selected=""))
    if key == "s":
        names = list(ORDERS)
        return Done(replace(choice, order=names[(names.index(choice.order) + 1) % len(names)]))
    if key == "/":
        return Done(replace(choice, mode=Mode.FILTER))
    if key == keys.ESCAPE:
        return Done(replace(choice, filter=""))
    if key == "p":
        return Done(replace(choice, mode=Mode.PEERS))
    if key in ("?", "h"):
        return Done(replace(choice, mode=Mode.HELP))
    return Done(_on_job(key, choice, rows))


def _on_job(key: str, choice: Choice, rows: Sequence[JobRow]) -> Choice:
    if not rows:
        return choice
    row = rows[selected(rows, choice)]
    if key in (keys.ENTER, "o"):
        return replace(choice, mode=Mode.OUTPUT, selected=row.job_id, back=0)
    if key == "x" and row.status in OPEN:
        return replace(choice, mode=Mode.ASK_STOP, selected=row.job_id)
    return choice


def _moved(choice: Choice, rows: Sequence[JobRow], by: int) -> Choice:
    if not rows:
        return choice
    place = min(len(rows) - 1, max(0, selected(rows, choice) + by))
    return replace(choice, selected=rows[place].job_id)


def _in_filter(key: str, choice: Choice, _rows: Sequence[JobRow], _page: int) -> Done:
    if key == keys.ENTER:
        return Done(replace(choice, mode=Mode.LIST))
    if key == keys.ESCAPE:
        return Done(replace(choice, mode=Mode.LIST, filter=""))
    if key == keys.BACKSPACE:
        return Done(replace(choice, filter=choice.filter[:-1]))
    if len(key) == 1 and key.isprintable():
        return Done(replace(choice, filter=(choice.filter + key)[:LONGEST_FILTER]))
    return Done(choice)


def _in_question(key: str, choice: Choice, _rows: Sequence[JobRow], _page: int) -> Done:
    """Only a plain yes is one."""
    answered = replace(choice, mode=Mode.LIST)
    return Done(answered, stop=choice.selected) if key in ("y", "Y") else Done(answered)


def _in_output(key: str, choice: Choice, _rows: Sequence[JobRow], page: int) -> Done:
    if key in (keys.ESCAPE, "q", keys.ENTER, "o"):
        return Done(replace(choice, mode=Mode.LIST, back=0))
    steps = {keys.UP: 1, "k": 1, keys.DOWN: -1, "j": -1, keys.PAGE_UP: page, " ": -page, keys.PAGE_DOWN: -page}
    if key in steps:
        return Done(replace(choice, back=max(0, choice.back + steps[key])))
    if key in (keys.END, "G", "f"):
        return Done(replace(choice, back=0))
    return Done(choice)


def _in_text(_key: str, choice: Choice, _rows: Sequence[JobRow], _page: int) -> Done:
    return Done(replace(choice, mode=Mode.LIST))


_MODES = {
    Mode.LIST: _in_list,
    Mode.FILTER: _in_filter,
    Mode.ASK_STOP: _in_question,
    Mode.OUTPUT: _in_output,
    Mode.PEERS: _in_text,
    Mode.HELP: _in_text,
}


def _text_of(row: JobRow) -> str:
    return f"{row.job_id} {row.status} {row.peer} {row.image} {row.reason}".casefold()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
