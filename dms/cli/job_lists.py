"""`nunet job list|summary|stop`: many jobs at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, cast

import click

from dms.cli.core import F, Group, State, command, pass_state
from dms.cli.events import at_option
from dms.cli.failure import say
from dms.cli.references import JobReference, PeerId, Statuses, job_id_of
from dms.cli.text import in_path, moment
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.cli.output import Column

SORTS = ("requested_at", "ended_at", "price", "status")
_EXITS = {"unknown": Exit.NOT_FOUND, "over": Exit.CONFLICT, "failed": Exit.FAILURE}


def add_to(group: Group) -> None:
    _add_list(group)
    _add_summary(group)
    _add_stopping(group)


def job_filters(function: F) -> F:
    """Decorator: which jobs; they come in as one dict `wanted`, as the API names them. Below `pass_state`."""

    @click.option("--status", type=Statuses(), metavar="STATUS", help="Only jobs in these states (comma-separated).")
    @click.option("--role", type=click.Choice(["sp", "cp"]), help="Only jobs this node requested (sp) or runs (cp).")
    @click.option("--peer", type=PeerId(), metavar="PEER", help="Only jobs with this peer on the other side.")
    @click.option("--image", metavar="IMAGE", help="Only jobs of this image; with * at its end, of those beginning so.")
    @click.option("-q", "--search", "q", metavar="TEXT", help="Only with this text in the id, image, peer or reason.")
    @click.option("--since", metavar="TIME", help="Only jobs requested at or after this time.")
    @click.option("--until", metavar="TIME", help="Only jobs requested before this time.")
    @at_option
    @wraps(function)
    def filtered(state: State, *args: Any, **options: Any) -> Any:
        names = ("status", "role", "peer", "image", "q", "since", "until", "as_of")
        wanted = {name: options.pop(name) for name in names}
        return function(state, *args, wanted=wanted, **options)

    return cast("F", filtered)


def _add_list(group: Group) -> None:
    example = "nunet job list --status running --limit 20\nnunet job list --search memory --sort ended_at"

    @command(group, "list", example)
    @click.option("--sort", type=click.Choice(SORTS), help="What they are in the order of  [default: newest first].")
    @click.option("--reverse", is_flag=True, help="Turn the order round: smallest or oldest first.")
    @click.option("--offset", type=click.IntRange(0), help="Pass over so many.")
    @click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many.")
    @pass_state
    @job_filters
    def list_jobs(
        state: State,
        *,
        sort: str | None,
        reverse: bool,
        offset: int | None,
        limit: int,
        wanted: Mapping[str, str | None],
    ) -> None:
        """List the jobs that this node requested or runs, newest first."""
        order = {"sort": sort, "order": "asc" if reverse else None, "offset": offset or None}
        found, total = state.api().get_counted("/jobs", **wanted, **order, limit=limit)
        rows = found["items"]
        empty = "no such jobs" if any(wanted.values()) else "no jobs yet; run one with: nunet job run job.json"
        columns: list[Column] = [
            ("JOB", "job_id"),
            ("ROLE", "role"),
            ("STATUS", status_of),
            ("REQUESTED", lambda row: moment(row.get("requested_at"))),
            ("EXIT", "exit_code"),
            ("PRICE", "price"),
            ("COST", "cost"),
            ("IMAGE", "image"),
        ]
        state.output.rows(rows, columns, empty=empty)
        if state.output.for_people and rows and total > len(rows):
            say(f"{len(rows)} of {total}; --limit and --offset show others")


def _add_summary(group: Group) -> None:
    @command(group, "summary", "nunet job summary --role cp --since 2026-01-01T00:00:00Z")
    @pass_state
    @job_filters
    def summary(state: State, *, wanted: Mapping[str, str | None]) -> None:
        """Count jobs by state, and add up what they cost and earned."""
        found = state.api().get("/jobs/summary", **wanted)
        if not state.output.for_people:
            state.output.record(found)
            return
        states = {f"  {status}": jobs for status, jobs in sorted(found["by_status"].items())}
        state.output.record(
            {
                "jobs": str(found["total"]),
                **states,
                "failed in the last 24 h": str(found["failed_in_24_hours"]),
                "spent": f"{found['spent_ntx']} NTX",
                "open jobs, at most": f"{found['open_ntx']} NTX" if "open_ntx" in found else "-",
                "earned": f"{found['earned_ntx']} NTX",
                "still to claim": f"{found['to_claim_ntx']} NTX",
            }
        )


def _add_stopping(group: Group) -> None:
    example = 'nunet job stop <job-id> --reason "wrong data"\nnunet job stop <job-id> <job-id> --dry-run'

    @command(group, "stop", example)
    @click.option("--reason", default="", help="Recorded, and sent to the other side  [default: who stopped it].")
    @click.option("--dry-run", is_flag=True, help="Only tell what would become of each job.")
    @click.argument("jobs", type=JobReference(), metavar="JOB...", nargs=-1, required=True)
    @pass_state
    def stop(state: State, jobs: tuple[str, ...], *, reason: str, dry_run: bool) -> int:
        """Stop jobs that this node requested, or that it runs for another node. They count as failed, with the reason.

        Of several, each is stopped or not by itself; the exit code is that of the first that could not be.
        """
        job_ids = list(dict.fromkeys(job_id_of(state, job) for job in jobs))
        if len(job_ids) == 1 and not dry_run:
            _stop_one(state, job_ids[0], reason)
            return Exit.OK
        body = {"job_ids": job_ids, "reason": reason, "dry_run": dry_run}
        found = state.api().post("/jobs/stop", body)["jobs"]
        columns: list[Column] = [("JOB", "job_id"), ("STATUS", "status"), ("OUTCOME", "message")]
        state.output.rows(found, columns)
        return Exit.OK if dry_run else _exit_of(found)


def _stop_one(state: State, job_id: str, reason: str) -> None:
    answer = state.api().post(f"/jobs/{in_path(job_id)}/stop", {"reason": reason})
    say(f"job {job_id} was told to stop")
    if answer and not state.output.for_people:
        state.output.record(answer)


def _exit_of(found: Sequence[Mapping[str, Any]]) -> int:
    return next((_EXITS[told["outcome"]] for told in found if told["outcome"] in _EXITS), Exit.OK)


def status_of(row: Mapping[str, Any]) -> str:
    again = f", attempt {row['attempt']} of {row['attempts']}" if row.get("failed_attempts") else ""
    return str(row["status"]) + again + (", unreachable" if row.get("unreachable") else "")
