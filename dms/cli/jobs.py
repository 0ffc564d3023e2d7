"""`nunet job`: ask for jobs and pay them, watch them, read what happened."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import click

from dms.cli.checkpoints import with_resume
from dms.cli.core import F, Group, State, can_ask, command, pass_state
from dms.cli.events import at_option
from dms.cli.failure import Failure, say
from dms.cli.text import in_path, moment, output_line
from dms.durations import seconds_in
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.cli.client import Api
    from dms.cli.output import Column

FUND_SECONDS = 60.0  # from the report of a payment to the job's submission


class Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return seconds_in(str(value), unit_seconds=1.0)
        except ValueError:
            self.fail(f"{value!r} is no duration: a number of seconds, or a text such as 90s, 10m, 1h", param, ctx)


def add_to(cli: Group) -> None:
    group = Group("job", help="Ask for jobs, watch them, read what happened.", example="nunet job list")
    cli.add_command(group)
    for add in (_add_run, _add_fund, _add_list, _add_describe, _add_history, _add_why):
        add(group)
    _add_logs(group)
    _add_stopping(group)


def _paying(function: F) -> F:
    """Decorator: the options of a command that pays a job and may wait for it."""
    options = [
        click.option("--tx-hash", metavar="HASH", help="Transaction that pays the job."),
        click.option(
            "--trust", is_flag=True,
            help="Report a made-up transaction: good for trying out, where the daemon's funding check is `trust`.",
        ),
        click.option(
            "-f", "-w", "--wait", "--follow", "wait", is_flag=True,
            help="Show the job's output until it ends; exit with the container's code.",
        ),
        click.option("--timeout", type=Duration(), help="With --wait: at most so long, then exit code 124."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def _add_run(group: Group) -> None:
    @command(group, "run", "nunet job run job.json --tx-hash <hash> --wait\nnunet job run - --quote < job.json")
    @click.argument("file", type=click.File("rb"))
    @click.option("--quote", is_flag=True, help="Only ask for the price; pay later with `job fund`.")
    @click.option("--resume", metavar="FILE|JOB", help="Go on from this checkpoint, or from the one of this job.")
    @click.option("--strict", is_flag=True, help="Take warnings about the job file for errors.")
    @_paying
    @pass_state
    def run(
        state: State,
        file: IO[bytes],
        *,
        quote: bool,
        resume: str | None,
        strict: bool,
        tx_hash: str | None,
        trust: bool,
        wait: bool,
        timeout: float | None,
    ) -> int:
        """Ask for a service, pay, and run it. FILE is the JSON body of request-service; - is standard input.

        The quote names provider and price. Then the payment is reported: the hash of --tx-hash, or one that is typed
        in. With --wait the container's standard output and error come out as this command's own.
        """
        request = with_resume(read_request(file), resume)
        _check_payment(tx_hash, trust)
        api = state.api()
        offer = _ask_for(api, request, strict=strict or None)
        job_id = offer["job_id"]
        provider = offer.get("compute_provider_id") or offer["compute_provider_addr"]
        say(f"job {job_id}: {offer['estimated_price']} NTX, provider {provider}")
        if quote:
            _print_quote(state, offer)
            return Exit.OK
        paid_with = f"unpaid-{job_id}" if trust else tx_hash or _typed_hash(state, offer)
        if trust:
            say("nothing is paid: a made-up transaction is reported, which only the funding check `trust` believes")
        return _fund(state, api, job_id, paid_with, wait=wait, timeout=timeout)


def _add_fund(group: Group) -> None:
    @command(group, "fund", "nunet job fund <job-id> --tx-hash <hash> --wait")
    @click.argument("job_id")
    @_paying
    @pass_state
    def fund(state: State, job_id: str, *, tx_hash: str | None, trust: bool, wait: bool, timeout: float | None) -> int:
        """Report the payment of a job that was quoted before, and run it."""
        _check_payment(tx_hash, trust)
        if not tx_hash and not trust:
            raise Failure("a payment is missing", Exit.USAGE, "give its transaction with --tx-hash")
        api = state.api()
        _check_awaited(api, job_id)
        return _fund(state, api, job_id, tx_hash or f"unpaid-{job_id}", wait=wait, timeout=timeout)


def _add_list(group: Group) -> None:
    @command(group, "list", "nunet job list --status running --limit 20")
    @click.option("--status", metavar="STATUS", help="Only jobs in this state; several with commas between.")
    @click.option("--role", type=click.Choice(["sp", "cp"]), help="Only jobs this node asked for (sp) or runs (cp).")
    @click.option(
        "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many, newest first."
    )
    @at_option
    @pass_state
    def list_jobs(state: State, status: str | None, role: str | None, limit: int, as_of: str | None) -> None:
        """List the jobs of this node, asked for by it or run by it; the newest first."""
        found = state.api().get("/jobs", status=status, role=role, limit=limit, as_of=as_of)["items"]
        asked_for_some = status or role or as_of
        empty = "no such jobs" if asked_for_some else "no jobs yet; run one with: nunet job run job.json"
        columns: list[Column] = [
            ("JOB", "job_id"),
            ("ROLE", "role"),
            ("STATUS", lambda row: str(row["status"]) + (", unreachable" if row.get("unreachable") else "")),
            ("REQUESTED", lambda row: moment(row.get("requested_at"))),
            ("EXIT", "exit_code"),
            ("PRICE", "price"),
            ("IMAGE", "image"),
        ]
        state.output.rows(found, columns, empty=empty)


def _add_describe(group: Group) -> None:
    @command(group, "describe", "nunet job describe <job-id> -o json")
    @click.argument("job_id")
    @at_option
    @pass_state
    def describe(state: State, job_id: str, as_of: str | None) -> None:
        """Show all that is known about a job, now or as it was."""
        job = state.api().get(f"/jobs/{in_path(job_id)}", as_of=as_of)
        if not state.output.for_people:
            state.output.record(job)
            return
        shown = {key: value for key, value in job.items() if key != "timeline" and value not in (None, "", 0, False)}
        shown |= {key: moment(job.get(key)) for key in ("requested_at", "started_at", "ended_at") if job.get(key)}
        state.output.record(shown)
        click.echo()
        steps: list[Column] = [
            ("POSITION", "position"),
            ("TIME", lambda row: moment(row.get("time"))),
            ("EVENT", "event"),
        ]
        state.output.rows(job.get("timeline", []), [*steps, ("NOTE", "note")])


def _add_history(group: Group) -> None:
    @command(group, "history", "nunet job history <job-id> -o json")
    @click.argument("job_id")
    @pass_state
    def history(state: State, job_id: str) -> None:
        """Show every event of a job, as the log has it: with position, cause and hash."""
        events = list(state.api().items(f"/jobs/{in_path(job_id)}/history"))
        columns: list[Column] = [
            ("POSITION", "position"),
            ("TIME", lambda row: moment(row["time"])),
            ("EVENT", "topic"),
            ("CAUSATION", "causation_id"),
            ("HASH", lambda row: str(row["hash"])[:16]),
        ]
        state.output.rows(events, columns)


def _add_why(group: Group) -> None:
    @command(group, "why", "nunet job why <job-id>")
    @click.argument("job_id")
    @pass_state
    def why(state: State, job_id: str) -> None:
        """Tell why a job went to its provider, why others could not take it, and why it ended as it did."""
        api = state.api()
        job = api.get(f"/jobs/{in_path(job_id)}")
        reasons = reasons_of(job, api.items(f"/jobs/{in_path(job_id)}/history"))
        if not state.output.for_people:
            state.output.record(reasons)
            return
        shown: list[Column] = [(key, key) for key in reasons if key not in ("refused", "refused_count")]
        if reasons["refused_count"]:
            shown.append(("refused_count", "refused_count"))
        state.output.record(reasons, shown)
        if reasons["refused"]:
            click.echo()
            state.output.rows(reasons["refused"], [("NOT CHOSEN", "peer_id"), ("WHY", "reason")])
        left_out = reasons["refused_count"] - len(reasons["refused"])
        if left_out > 0:
            click.echo(f"and {left_out} more that could not take it")


def _add_logs(group: Group) -> None:
    @command(group, "logs", "nunet job logs <job-id> -f --after 2")
    @click.argument("job_id")
    @click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
    @click.option("--after", type=click.IntRange(0), default=0, help="Only lines behind this number.")
    @click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="Only this stream.")
    @click.option("-t", "--timestamps", is_flag=True, help="Number and time before each line.")
    @pass_state
    def logs(state: State, job_id: str, *, follow: bool, after: int, stream: str | None, timestamps: bool) -> int:
        """Print the output of a job: its standard output to standard output, its errors to standard error.

        Exit code 1 when what this node has stored is damaged: no longer what was sealed when the job ended.
        """
        api = state.api()
        # Knowing the job's own address of its output is the right to read it.
        job = api.get(f"/jobs/{in_path(job_id)}")
        token = parse_qs(urlsplit(job["log_url"]).query)["token"][0]
        path = f"/jobs/{in_path(job_id)}/logs"
        nothing, damaged = True, False
        for line in api.lines(path, token=token, after=after, follow=follow, stream=stream):
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


def _add_stopping(group: Group) -> None:
    @command(group, "stop", 'nunet job stop <job-id> --reason "wrong data"')
    @click.argument("job_id")
    @click.option("--reason", default="", help="Is recorded, and told the other side  [default: who stopped it].")
    @pass_state
    def stop(state: State, job_id: str, reason: str) -> None:
        """Stop a job of ours, or one that runs here for another node. It counts as failed, with the reason."""
        answer = state.api().post(f"/jobs/{in_path(job_id)}/stop", {"reason": reason})
        say(f"job {job_id} is told to stop")
        if answer and not state.output.for_people:
            state.output.record(answer)


def reasons_of(job: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the job's events say of its placement and its end."""
    data = {str(event["topic"]): event["data"] for event in events}
    quoted = data.get("job.service_requested", {})
    return {
        "status": job["status"],
        "reason": job.get("reason") or "",
        "fault": job.get("fault") or "",
        "exit_code": job.get("exit_code"),
        "provider": quoted.get("provider", ""),
        "refused_count": quoted.get("refused_count", 0),
        "refused": quoted.get("refused", []),
    }


# --- running a job ---------------------------------------------------------------------------------


def read_request(file: IO[bytes]) -> dict[str, Any]:
    """Raises Failure with the place of the fault."""
    path = getattr(file, "name", "-")
    where = "standard input" if path in ("<stdin>", "-") else path
    try:
        request = json.loads(file.read())
    except json.JSONDecodeError as error:
        raise Failure(f"{where}:{error.lineno}:{error.colno}: no JSON: {error.msg}", Exit.USAGE) from error
    except UnicodeDecodeError as error:
        raise Failure(f"{where}: not UTF-8 at byte {error.start}", Exit.USAGE) from error
    if not isinstance(request, dict):
        raise Failure(f'{where}: expected an object: {{"service_type": ...}}', Exit.USAGE)
    return request


def _check_payment(tx_hash: str | None, trust: bool) -> None:
    if tx_hash is not None and trust:
        raise click.UsageError("--tx-hash and --trust exclude each other")
    if tx_hash is not None and not tx_hash.strip():
        raise click.UsageError("--tx-hash is empty")


def _check_awaited(api: Api, job_id: str) -> None:
    """Raises Failure for a job that was paid before: its `job-submitted` would be taken for this payment's."""
    status = api.get(f"/jobs/{in_path(job_id)}")["status"]
    if status not in ("awaiting", "funding"):
        raise Failure(f"job {job_id} awaits no payment: it is {status}", Exit.CONFLICT, f"nunet job why {job_id}")


def _ask_for(api: Api, request: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    """The quote. What may be a mistake in the request is told."""
    try:
        offer: dict[str, Any] = api.post("/run/request-service", request, strict=strict or None)
    except Failure as failure:
        if failure.exit_code != Exit.NOT_FOUND:
            raise
        raise Failure(
            failure.message, Exit.NOT_PLACED, "see who is there: nunet capacity, nunet peer list"
        ) from failure
    for warning in offer.get("warnings", ()):
        say(f"warning: {warning['pointer']}: {warning['detail']}")
    return offer


def _print_quote(state: State, offer: Mapping[str, Any]) -> None:
    columns = [
        ("job", "job_id"),
        ("price (NTX)", "estimated_price"),
        ("provider", "compute_provider_id"),
        ("pay to", "compute_provider_addr"),
    ]
    state.output.record(offer, columns)


def _typed_hash(state: State, offer: Mapping[str, Any]) -> str:
    """Asks for it. Raises Failure where nobody can be asked: the quote stays open for its time."""
    job_id = offer["job_id"]
    later = f"pay, then: nunet job fund {job_id} --tx-hash <hash>    (to try it out without money: --trust)"
    if not can_ask():
        _print_quote(state, offer)
        raise Failure("the job waits for its payment: no --tx-hash was given", Exit.USAGE, later)
    try:
        typed = click.prompt("Pay, then type the transaction's hash", type=str, err=True)
    except click.Abort:
        say("\n" + later)
        raise
    return str(typed).strip()


def _fund(state: State, api: Api, job_id: str, tx_hash: str, *, wait: bool, timeout: float | None) -> int:
    from dms.cli.follow import Follower

    seconds = timeout if wait else FUND_SECONDS
    deadline = None if seconds is None else time.monotonic() + seconds
    payment = {"transaction_type": "fund", "transaction_status": "success", "tx_hash": tx_hash}
    follower = Follower(api, job_id, payment, deadline=deadline)
    try:
        with contextlib.closing(follower.frames()) as frames:
            for frame in frames:
                _show(state, frame, wait=wait)
                if frame["action"] == "error":
                    raise Failure(str(frame.get("message") or "the payment was not accepted"))
                if frame["action"] == "job-submitted" and not wait:
                    break
                if frame["action"] in ("job-completed", "job-failed"):
                    return _end(state, api, job_id, frame)
    except KeyboardInterrupt:
        say(f"\njob {job_id} goes on; watch it: nunet job logs -f {job_id}    stop it: nunet job stop {job_id}")
        raise
    _print_job_id(state, api, job_id)
    return Exit.OK


def _show(state: State, frame: Mapping[str, Any], *, wait: bool) -> None:
    """One frame: as it is for jsonl; else the output where it belongs, and actions as progress."""
    if state.output.kind == "jsonl":
        if wait:
            state.output.line(frame)
        return
    if frame["action"] == "log-stream-response":
        for stream in ("stdout", "stderr"):
            if wait and frame.get(stream) is not None:
                # A document on standard output must not be mixed with the job's.
                text = str(frame[stream])
                end = "\n" if text.endswith("\n") else ""
                print_line(stream if state.output.for_people else "stderr", text.removesuffix("\n"), end)
    elif frame["action"] not in ("connected", "error"):
        message = frame.get("message")
        text = "" if message is None else message if isinstance(message, str) else json.dumps(message)
        say(f"{time.strftime('%H:%M:%S')} {frame['action']} {text}".rstrip())


def _end(state: State, api: Api, job_id: str, frame: Mapping[str, Any]) -> int:
    """The exit code: the container's own; without one, 125 when it never started."""
    job = api.get(f"/jobs/{in_path(job_id)}")
    if state.output.kind in ("json", "yaml"):
        state.output.record(job)
    if frame["action"] == "job-completed":
        return Exit.OK
    say(f"error: job {job_id} failed: {frame.get('message') or job.get('reason')}")
    return exit_code(job)


def exit_code(job: Mapping[str, Any]) -> int:
    """Of a job that failed."""
    if job.get("exit_code"):
        return int(job["exit_code"])
    if job.get("exit_code") == 0 or job.get("started_at"):
        return Exit.FAILURE
    return Exit.NOT_STARTED


def _print_job_id(state: State, api: Api, job_id: str) -> None:
    if state.output.for_people:
        click.echo(job_id)
    else:
        state.output.record(api.get(f"/jobs/{in_path(job_id)}"))


def print_line(stream: str, text: str, end: str = "\n") -> None:
    """A line of a job's output, on the stream that it came from."""
    target = sys.stderr if stream == "stderr" else sys.stdout
    target.write(output_line(text, terminal=target.isatty()) + end)
    target.flush()
