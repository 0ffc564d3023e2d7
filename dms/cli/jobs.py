"""`nunet job`: read what happened to one. Asking and paying is in `job_run.py`, lists of jobs in `job_lists.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from dms.cli import job_lists, job_plot, job_run, results
from dms.cli.core import Group, State, command, pass_state
from dms.cli.events import at_option
from dms.cli.failure import Failure
from dms.cli.job_text import log_token, print_line
from dms.cli.references import job_argument
from dms.cli.text import in_path, moment
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.cli.output import Column

VERIFY_SECONDS = 120.0  # the output may be long
ATTEMPTS: list[Column] = [
    ("FAILED ATTEMPT", "attempt"),
    ("PROVIDER", "peer"),
    ("TIME", lambda row: moment(row.get("failed_at"))),
    ("FAULT", lambda row: row.get("fault") or "nobody"),
    ("RAN", lambda row: f"{row['duration_seconds']:.1f} s" if row.get("duration_seconds") else "unknown"),
    ("WHY", "reason"),
]


def add_to(cli: Group) -> None:
    group = Group("job", help="Ask for jobs, watch them, read what happened.", example="nunet job list")
    cli.add_command(group)
    job_run.add_to(group)
    results.add_to(group)
    job_lists.add_to(group)
    for add in (_add_describe, _add_history, _add_verify, _add_why):
        add(group)
    _add_logs(group)
    job_plot.add_to(group)


def _add_describe(group: Group) -> None:
    @command(group, "describe", "nunet job describe <job-id> -o json")
    @at_option
    @pass_state
    @job_argument
    def describe(state: State, *, job_id: str, as_of: str | None) -> None:
        """Show everything known about a job, now or at an earlier moment."""
        job = state.api().get(f"/jobs/{in_path(job_id)}", as_of=as_of)
        if not state.output.for_people:
            state.output.record(job)
            return
        shown = {key: value for key, value in job.items() if key != "timeline" and value not in (None, "", 0, False)}
        shown |= {key: moment(job.get(key)) for key in ("requested_at", "started_at", "ended_at") if job.get(key)}
        attempts = shown.pop("failed_attempts", [])
        state.output.record(shown)
        click.echo()
        if attempts:
            state.output.rows(attempts, ATTEMPTS)
            click.echo()
        steps: list[Column] = [
            ("POSITION", "position"),
            ("TIME", lambda row: moment(row.get("time"))),
            ("EVENT", "event"),
        ]
        state.output.rows(job.get("timeline", []), [*steps, ("NOTE", "note")])


def _add_history(group: Group) -> None:
    @command(group, "history", "nunet job history <job-id> -o json")
    @pass_state
    @job_argument
    def history(state: State, *, job_id: str) -> None:
        """Show every event of a job, with position, cause and hash."""
        events = list(state.api().items(f"/jobs/{in_path(job_id)}/history"))
        columns: list[Column] = [
            ("POSITION", "position"),
            ("TIME", lambda row: moment(row["time"])),
            ("EVENT", "topic"),
            ("CAUSATION", "causation_id"),
            ("HASH", lambda row: str(row["hash"])[:16]),
        ]
        state.output.rows(events, columns)


def _add_verify(group: Group) -> None:
    @command(group, "verify", "nunet job verify @last\nnunet job verify <job-id> -o json")
    @pass_state
    @job_argument
    def verify(state: State, *, job_id: str) -> None:
        """Check the record of a job: its events, the provider's signatures, its output, and peers' signatures since.

        Exits with 1 if anything is not as it was recorded. What nothing can tell of yet is open, and no failure.
        `nunet audit verify` checks the whole history.
        """
        found = state.api().get_slowly(f"/jobs/{in_path(job_id)}/verification", VERIFY_SECONDS)
        if state.output.for_people:
            state.output.rows(found["checks"], [("CHECK", "name"), ("RESULT", "result"), ("FOUND", "detail")])
        else:
            state.output.record(found)
        if found["result"] == "wrong":
            raise Failure(
                f"the record of job {job_id} is not what was recorded",
                hint="the other side of the job has its own copy; nunet audit verify checks all that is stored here",
            )


def _add_why(group: Group) -> None:
    @command(group, "why", "nunet job why <job-id>")
    @pass_state
    @job_argument
    def why(state: State, *, job_id: str) -> None:
        """Explain why a job went to its provider, why others could not take it, and why it ended as it did."""
        api = state.api()
        job = api.get(f"/jobs/{in_path(job_id)}")
        reasons = reasons_of(job, api.items(f"/jobs/{in_path(job_id)}/history"))
        if not state.output.for_people:
            state.output.record(reasons)
            return
        lists = ("refused", "refused_count", "failed_attempts")
        shown: list[Column] = [(key, key) for key in reasons if key not in lists]
        if reasons["refused_count"]:
            shown.append(("refused_count", "refused_count"))
        state.output.record(reasons, shown)
        if reasons["failed_attempts"]:
            click.echo()
            state.output.rows(reasons["failed_attempts"], ATTEMPTS)
        if reasons["refused"]:
            click.echo()
            state.output.rows(reasons["refused"], [("NOT CHOSEN", "peer_id"), ("WHY", "reason")])
        left_out = reasons["refused_count"] - len(reasons["refused"])
        if left_out > 0:
            click.echo(f"and {left_out} more that could not take it")


def _add_logs(group: Group) -> None:
    @command(group, "logs", "nunet job logs <job-id> -f --after 2")
    @click.option("-f", "--follow", is_flag=True, help="Keep printing until the job ends.")
    @click.option("--after", type=click.IntRange(0), default=0, help="Only lines after this number.")
    @click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="Only this stream.")
    @click.option("-t", "--timestamps", is_flag=True, help="Prefix each line with its number and time.")
    @pass_state
    @job_argument
    def logs(state: State, *, job_id: str, follow: bool, after: int, stream: str | None, timestamps: bool) -> int:
        """Print a job's output: its standard output to standard output, its standard error to standard error.

        Exits with 1 if the stored output is damaged, that is, differs from what was sealed when the job ended.
        """
        api = state.api()
        job = api.get(f"/jobs/{in_path(job_id)}")
        path = f"/jobs/{in_path(job_id)}/logs"
        nothing, damaged = True, False
        for line in api.lines(path, token=log_token(job), after=after, follow=follow, stream=stream):
            nothing = False
            damaged = damaged or line.get("damaged", False)
            if state.output.for_people:
                lead = f"{line['seq']} {line['time']} " if timestamps else ""
                piece = line.get("goes_on") and not timestamps
                print_line(line["stream"], lead + line["text"], end="" if piece else "\n")
            else:
                state.output.line(line)
        if nothing and not stream and after < (job.get("log_lines") or 0):
            said = f"the {job['log_lines']} lines that job {job_id} wrote are not here any more: they were erased"
            raise Failure(said, Exit.NOT_FOUND, "nunet erasure list")
        if damaged:
            raise Failure(
                f"the stored output of job {job_id} is damaged: it is not what was sealed",
                hint="the other side of the job has its own copy; nunet audit verify checks all that is stored here",
            )
        return Exit.OK


_REFUND = "the job never ran: all of its price is owed back, and its payment can pay for another job"


def reasons_of(job: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the job's events say of its placement and its end."""
    data = {str(event["topic"]): event["data"] for event in events}
    quoted = data.get("job.attempt_started") or data.get("job.service_requested", {})
    return {
        "status": job["status"],
        "reason": job.get("reason") or "",
        "fault": job.get("fault") or "",
        "exit_code": job.get("exit_code"),
        "money": _REFUND if job.get("refund") else "",
        "provider": quoted.get("provider", ""),
        "attempt": f"{job.get('attempt', 1)} of {job.get('attempts', 1)}",
        "failed_attempts": job.get("failed_attempts", []),
        "refused_count": quoted.get("refused_count", 0),
        "refused": quoted.get("refused", []),
    }
