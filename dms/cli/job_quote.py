"""The daemon is asked what a job would cost and who would run it; its answer is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from dms.cli.core import State
from dms.cli.failure import Failure, say
from dms.cli.text import printable
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.cli.client import Api
    from dms.cli.output import Column

ASK_SECONDS = 60.0  # providers are asked one after the other whether they can take the job
_QUOTED: list[tuple[str, str]] = [
    ("job", "job_id"),
    ("price (NTX)", "estimated_price"),
    ("provider", "compute_provider_id"),
    ("pay to", "compute_provider_addr"),
]


def asked_for(api: Api, path: str, request: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    """The answer. What may be a mistake in the request is told. Raises Failure."""
    try:
        answer: dict[str, Any] = api.post(path, request, timeout_seconds=ASK_SECONDS, strict=strict or None)
    except Failure as failure:
        if failure.exit_code != Exit.NOT_FOUND:
            raise
        hint = "see who offers what: nunet capacity, nunet peer list; a job asks for less by --cpu and --ram"
        raise Failure(failure.message, Exit.NOT_PLACED, hint) from failure
    for warning in answer.get("warnings", ()):
        say(f"warning: {warning['pointer']}: {warning['detail']}")
    return answer


def print_quote(state: State, offer: Mapping[str, Any]) -> None:
    state.output.record(offer, _QUOTED)


def print_dry_run(state: State, found: Mapping[str, Any]) -> None:
    if not state.output.for_people:
        state.output.record(found)
        return
    state.output.record(found, [*_QUOTED[1:], ("refused", "refused_count"), ("not looked at", "unseen_count")])
    click.echo()
    candidates: list[Column] = [
        ("CAN TAKE IT", "peer_id"),
        ("NTX", "price"),
        ("ROUND TRIP", lambda row: "" if row.get("round_trip_ms") is None else f"{row['round_trip_ms']:g} ms"),
        ("WHY", lambda row: "chosen: the cheapest that is there" if row["chosen"] else printable(row["trouble"])),
    ]
    state.output.rows(found["candidates"], candidates)
    if found["refused"]:
        click.echo()
        state.output.rows(found["refused"], [("CAN'T TAKE IT", "peer_id"), ("WHY", "reason")])
