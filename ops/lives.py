"""Writes `docs/lives.md` from the tables that the events pass: `python -m ops.lives`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dms.domain.aggregate import Aggregate
from dms.domain.deployment import Deployment
from dms.domain.device import Device
from dms.domain.event import Event
from dms.domain.hold import Hold
from dms.domain.job import Job
from dms.domain.transfer import Transfer

PAGE = Path(__file__).parent.parent / "docs" / "lives.md"
LIVES: dict[type[Aggregate], str] = {
    Job: "As the service provider sees it.",
    Deployment: "The job's execution, on its compute provider. The service provider holds each record of it against "
    "the same table before it believes it.",
    Hold: "A place that a provider keeps for a job which is quoted and not paid yet. Its job may still come, and is "
    "decided by itself.",
    Transfer: "A file that one user gives to another: the same on both sides.",
    Device: "The machine, as a compute provider. Whether it is hindered is a fact of its own, in either state.",
}
INTRODUCTION = """# What may follow what

<!-- Written by `python -m ops.lives` from the code; a test holds it against the tables. -->

Every new event passes its aggregate's table (`dms/domain/rules.py`): what is not there can't happen, whoever says so.
A command that comes too late is refused (409). A record of the provider's that is out of order changes nothing and is
kept as `job.provider_misbehaved`. What an older version wrote is read in whatever order it stands in the log.
"""


def page() -> str:
    return "\n".join([INTRODUCTION, *(line for kind, says in LIVES.items() for line in _life(kind, says))])


def _life(kind: type[Aggregate], says: str) -> Iterator[str]:
    yield f"## {kind.__name__}\n\n{says}\n"
    yield "| while it is | may come | then it is |\n|---|---|---|"
    for state, following in kind.RULES.table.items():
        for after, kinds in _by_next_state(following).items():
            yield f"| {_name(state)} | {', '.join(f'`{event.TOPIC}`' for event in kinds)} | {after} |"
        if not following:
            yield f"| {_name(state)} | nothing | |"
    yield from _ruled_out(kind)
    yield ""


def _by_next_state(following: Any) -> dict[str, list[type[Event]]]:
    found: dict[str, list[type[Event]]] = {}
    for event, after in following.items():
        found.setdefault(after.__doc__ if callable(after) else _name(after), []).append(event)
    return found


def _ruled_out(kind: type[Aggregate]) -> Iterator[str]:
    rules = kind.RULES.rules_out
    once = sorted(event.TOPIC for event, others in rules.items() if others == {event})
    if once:
        yield f"\nOnce only: {', '.join(f'`{topic}`' for topic in once)}."
    for event, again in sorted(kind.RULES.renews.items(), key=lambda item: item[0].TOPIC):
        yield f"\nAfter `{event.TOPIC}` once more: {', '.join(f'`{t}`' for t in sorted(o.TOPIC for o in again))}."
    for event, others in sorted(rules.items(), key=lambda item: item[0].TOPIC):
        if others != {event}:
            yield f"\nAfter `{event.TOPIC}` none of: {', '.join(f'`{t}`' for t in sorted(o.TOPIC for o in others))}."


def _name(state: object) -> str:
    return "(nothing recorded yet)" if state in (None, "new") else str(state)


if __name__ == "__main__":
    PAGE.write_text(page())
