"""`nunet job run`, `rerun`, `fund`, `template`: ask for a job, pay it, wait for it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

import click

from dms.cli.checkpoints import with_resume
from dms.cli.core import Command, F, Group, State, can_ask, command, pass_state
from dms.cli.failure import Failure, say
from dms.cli.job_files import get, read_request, set_all
from dms.cli.job_options import DEFAULTS, Duration, described, describing
from dms.cli.job_template import TEMPLATES, template
from dms.cli.references import JobReference, job_argument, job_id_of
from dms.cli.text import in_path, printable
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.cli.client import Api
    from dms.cli.output import Column

ASK_SECONDS = 60.0  # providers are asked one after the other whether they can take the job
_ARGUMENTS = "nunet.arguments"  # where the words behind -- are kept
_RUN_EXAMPLE = """nunet job run job.yaml --tx-hash <hash> --wait
nunet job run --image python:3.12 --time 10m --dry-run -- python -c 'print(1)'
nunet job run - --quote < job.json"""


class RunCommand(Command):
    """What stands behind -- is the job's own command line, whatever is in it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_ARGUMENTS] = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARGS]"]


def add_to(group: Group) -> None:
    for add in (_add_run, _add_rerun, _add_fund, _add_template):
        add(group)


def _paying(function: F) -> F:
    """Decorator: the options of a command that pays a job and may wait for it."""
    options = [
        click.option("--tx-hash", metavar="HASH", help="Hash of the transaction that pays for the job."),
        click.option(
            "--trust", is_flag=True,
            help="Report a made-up transaction: for trying out, where the daemon's funding.check is trust.",
        ),
        click.option(
            "-f", "-w", "--wait", "--follow", "wait", is_flag=True,
            help="Show the job's output until it ends; exit with the container's code.",
        ),
        click.option("--timeout", type=Duration(), help="With --wait: give up after this long (exit code 124)."),
    ]  # fmt: skip
    return _with(options, function)


def _asking(function: F) -> F:
    """Decorator: the options of a command that asks for a new job."""
    options = [
        click.option("--quote", is_flag=True, help="Only ask for the price; pay later with `job fund`."),
        click.option("--dry-run", is_flag=True, help="Only show the price and the provider, and why; record nothing."),
        click.option("--strict", is_flag=True, help="Treat warnings, such as of unknown keys, as errors."),
    ]
    return _with(options, function)


def _with(options: list[Any], function: F) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def _add_run(group: Group) -> None:
    @command(group, "run", _RUN_EXAMPLE, cls=RunCommand)
    @click.argument("file", type=click.File("rb"), required=False)
    @describing
    @click.option(
        "--resume", metavar="FILE|JOB", type=JobReference(), help="Go on from this checkpoint, or that of this job."
    )
    @_asking
    @_paying
    @pass_state
    @click.pass_context
    def run(
        context: click.Context,
        state: State,
        /,
        *,
        file: IO[bytes] | None,
        resume: str | None,
        quote: bool,
        dry_run: bool,
        strict: bool,
        tx_hash: str | None,
        trust: bool,
        wait: bool,
        timeout: float | None,
        **given: Any,
    ) -> int:
        """Request a job, pay for it and run it.

        FILE describes the job, as JSON or YAML; - is standard input (see `nunet job template`). Options
        change what it says, or describe the job without a file. ARGS are the container's arguments.

        The quote names provider and price. Then the payment is reported: the hash of --tx-hash, or one
        that is typed in. With --wait the container's standard output and error come out as this
        command's own.
        """
        if file is None and not given["image"]:
            raise Failure(
                "what is to be run? give a FILE or --image", Exit.USAGE, "nunet job template ml-cpu > job.yaml"
            )
        _check_payment(tx_hash, trust)
        described_so_far = copy.deepcopy(dict(DEFAULTS)) if file is None else read_request(file)
        request = described(described_so_far, given, context.meta[_ARGUMENTS])
        request = with_resume(request, resume and job_id_of(state, resume))
        return _ask_and_pay(state, request, quote, dry_run, strict, tx_hash, trust, wait, timeout)


def _add_rerun(group: Group) -> None:
    @command(group, "rerun", "nunet job rerun @last --set constraints.time=20 --wait")
    @click.option(
        "--set", "settings", multiple=True, metavar="PATH=VALUE", help="Change a field, such as constraints.time=20."
    )
    @_asking
    @_paying
    @pass_state
    @job_argument
    def rerun(
        state: State,
        *,
        job_id: str,
        settings: tuple[str, ...],
        quote: bool,
        dry_run: bool,
        strict: bool,
        tx_hash: str | None,
        trust: bool,
        wait: bool,
        timeout: float | None,
    ) -> int:
        """Request the same job again, as a new one. It is quoted and paid for anew.

        JOB is a job that this node requested. Values of secret environment variables are not kept: set them again with
        --set params.secret_env.NAME=VALUE.
        """
        _check_payment(tx_hash, trust)
        request = _request_of(state.api(), job_id)
        set_all(request, settings)
        return _ask_and_pay(state, request, quote, dry_run, strict, tx_hash, trust, wait, timeout)


def _add_fund(group: Group) -> None:
    @command(group, "fund", "nunet job fund <job-id> --tx-hash <hash> --wait")
    @_paying
    @pass_state
    @job_argument
    def fund(state: State, *, job_id: str, tx_hash: str | None, trust: bool, wait: bool, timeout: float | None) -> int:
        """Report the payment for a job quoted earlier, and run it."""
        from dms.cli.job_watch import Watched

        _check_payment(tx_hash, trust)
        if not tx_hash and not trust:
            raise Failure("a payment is missing", Exit.USAGE, "give its transaction with --tx-hash")
        job = _awaited(state.api(), job_id)
        about = {"provider": job.get("peer"), "price": job.get("price")}
        return Watched(state, job_id, about, wait=wait).pay_and_follow(tx_hash or f"unpaid-{job_id}", timeout)


def _add_template(group: Group) -> None:
    @command(group, "template", "nunet job template ml-cpu > job.yaml")
    @click.argument("name", type=click.Choice(sorted(TEMPLATES)))
    @pass_state
    def show_template(state: State, name: str) -> None:
        """Print a job file to start from, in YAML, or in JSON with -o json.

        It names its schema, served by the daemon, so that editors complete and check what you type.
        """
        as_json, in_one_line = state.format in ("json", "jsonl"), state.format == "jsonl"
        click.echo(template(name, state.base_url, as_json=as_json, in_one_line=in_one_line), nl=False)


# --- steps ---------------------------------------------------------------------------------------------
def _ask_and_pay(
    state: State,
    request: Mapping[str, Any],
    quote: bool,
    dry_run: bool,
    strict: bool,
    tx_hash: str | None,
    trust: bool,
    wait: bool,
    timeout: float | None,
) -> int:
    from dms.cli.job_watch import Watched

    api = state.api()
    if dry_run:
        _print_dry_run(state, _asked(api, "/run/request-service/dry-run", request, strict=strict))
        return Exit.OK
    offer = _asked(api, "/run/request-service", request, strict=strict)
    job_id = offer["job_id"]
    provider = offer.get("compute_provider_id") or offer["compute_provider_addr"]
    say(f"job {job_id}: {offer['estimated_price']} NTX, provider {provider}")
    _warn_of_attempts(request, offer)
    if quote:
        _print_quote(state, offer)
        return Exit.OK
    paid_with = f"unpaid-{job_id}" if trust else tx_hash or _typed_hash(state, offer)
    if trust:
        say("nothing is paid: a made-up transaction is reported, which only the funding check `trust` believes")
    about = {"provider": provider, "price": offer["estimated_price"]}
    return Watched(state, job_id, about, wait=wait).pay_and_follow(paid_with, timeout)


def _warn_of_attempts(request: Mapping[str, Any], offer: Mapping[str, Any]) -> None:
    asked, most = get(dict(request), "retry.max_attempts"), offer.get("attempts", 1)
    if isinstance(asked, int) and asked > most:
        say("warning: it is tried once: its payment goes to the provider's own address, and can't be carried over")


def _check_payment(tx_hash: str | None, trust: bool) -> None:
    if tx_hash is not None and trust:
        raise click.UsageError("--tx-hash and --trust exclude each other")
    if tx_hash is not None and not tx_hash.strip():
        raise click.UsageError("--tx-hash is empty")


def _asked(api: Api, path: str, request: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    """The answer. What may be a mistake in the request is told."""
    try:
        answer: dict[str, Any] = api.post(path, request, timeout_seconds=ASK_SECONDS, strict=strict or None)
    except Failure as failure:
        if failure.exit_code != Exit.NOT_FOUND:
            raise
        hint = "see who is there: nunet capacity, nunet peer list"
        raise Failure(failure.message, Exit.NOT_PLACED, hint) from failure
    for warning in answer.get("warnings", ()):
        say(f"warning: {warning['pointer']}: {warning['detail']}")
    return answer


def _awaited(api: Api, job_id: str) -> dict[str, Any]:
    """The job. Raises Failure for one that was paid before: its `job-submitted` would be taken for this payment's."""
    job: dict[str, Any] = api.get(f"/jobs/{in_path(job_id)}")
    if job["status"] not in ("awaiting", "funding"):
        hint = f"nunet job why {job_id}"
        raise Failure(f"job {job_id} awaits no payment: it is {job['status']}", Exit.CONFLICT, hint)
    return job


def _request_of(api: Api, job_id: str) -> dict[str, Any]:
    """As it was asked for, without the payment. Raises Failure when it can't be asked for again."""
    found = api.get(f"/jobs/{in_path(job_id)}/request", personal=True)
    for name in found["secrets"]:
        say(f"the value of {name} is secret and not kept: set it with --set params.secret_env.{name}=VALUE")
    request: dict[str, Any] = found["request"]
    return request


def _print_dry_run(state: State, found: Mapping[str, Any]) -> None:
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


_QUOTED: list[tuple[str, str]] = [
    ("job", "job_id"),
    ("price (NTX)", "estimated_price"),
    ("provider", "compute_provider_id"),
    ("pay to", "compute_provider_addr"),
]


def _print_quote(state: State, offer: Mapping[str, Any]) -> None:
    state.output.record(offer, _QUOTED)


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
