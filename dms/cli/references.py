"""How jobs and peers are named on the command line, and completed by the shell.

A job is named by its id, by the beginning of it that no other job here has, or as @last: the newest one that this
node asked for, or if it never did, the newest that it runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from dms.cli.core import F, State
from dms.cli.failure import Failure
from dms.cli.text import moment
from dms.errors import DmsError, Exit

if TYPE_CHECKING:
    from dms.cli.client import Api

LAST = "@last"
_BEGINS = re.compile(r"[0-9a-f]{1,8}(-[0-9a-f-]{0,27})?")
_LONGEST = 36
_COMPLETED = 50
_NAMED = 5  # of several that begin alike


def job_argument(function: F) -> F:
    """Decorator: the argument JOB, which comes in as `job_id`, whole. Below `pass_state`."""

    @click.argument("job_id", type=JobReference(), metavar="JOB")
    @wraps(function)
    def resolved(state: State, *args: Any, job_id: str, **options: Any) -> Any:
        return function(state, *args, job_id=job_id_of(state, job_id), **options)

    return resolved  # type: ignore[return-value]  # takes what the function takes


def job_id_of(state: State, text: str) -> str:
    """The whole id. Raises Failure."""
    if text == LAST:
        return _last(state.api())
    if not is_reference(text):
        hint = f"give an id, the beginning of one, or {LAST}; nunet job list shows them"
        raise Failure(f"{text!r} is no job id", Exit.NOT_FOUND, hint)
    return text if len(text) == _LONGEST else _begun(state.api(), text)


def is_reference(text: str) -> bool:
    """Whether it may name a job."""
    return text == LAST or _BEGINS.fullmatch(text) is not None


def _last(api: Api) -> str:
    for role in ("sp", None):
        for row in api.get("/jobs", role=role, limit=1)["items"]:
            return str(row["job_id"])
    raise Failure("there is no job yet that @last could name", Exit.NOT_FOUND)


def _begun(api: Api, text: str) -> str:
    found = [str(row["job_id"]) for row in api.get("/jobs", id=text, limit=_NAMED + 1)["items"]]
    if not found:
        raise Failure(f"no job here has an id that begins with {text}", Exit.NOT_FOUND, "nunet job list")
    if len(found) > 1:
        more = ", ..." if len(found) > _NAMED else ""
        named = ", ".join(found[:_NAMED])
        raise Failure(f"several jobs begin with {text}: {named}{more}", Exit.USAGE, "give more of the id")
    return found[0]


# --- what a shell completes ----------------------------------------------------------------------------
class JobReference(click.ParamType[str]):
    name = "job"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        rows = _asked(ctx, "/jobs", id=incomplete if _BEGINS.fullmatch(incomplete) else None, limit=_COMPLETED)
        jobs = [CompletionItem(row["job_id"], help=_described(row)) for row in rows["items"]] if rows else []
        return _beginning(incomplete, [*jobs, CompletionItem(LAST, help="the newest one")])


class PeerId(click.ParamType[str]):
    name = "peer"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _beginning(incomplete, [CompletionItem(peer) for peer in _asked(ctx, "/peers/dht") or ()])


class Statuses(click.ParamType[str]):
    """One or more of them, with commas between."""

    name = "status"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from projections.jobs import STATUSES

        for part in str(value).split(","):
            if part not in STATUSES:
                self.fail(f"{part!r} is not one of {', '.join(STATUSES)}", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from projections.jobs import STATUSES

        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(before + comma + status) for status in STATUSES if status.startswith(last)]


def _asked(ctx: click.Context, path: str, **query: Any) -> Any:
    """None when there is no answer: somebody who presses TAB wants no error."""
    try:
        with ctx.scope():
            return ctx.ensure_object(State).api().get(path, **query)
    except (click.ClickException, DmsError):
        return None


def _beginning(incomplete: str, items: Iterable[CompletionItem]) -> list[CompletionItem]:
    return [item for item in items if str(item.value).startswith(incomplete)]


def _described(row: dict[str, Any]) -> str:
    return f"{row['status']}, {moment(row.get('requested_at'))}, {row.get('image', '')}"
