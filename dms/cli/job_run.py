"""`nunet job run`, `rerun`, `fund`, `template`: ask for a job, pay it, wait for it."""

from __future__ import annotations

import copy
from typing import IO, TYPE_CHECKING, Any

import click

from dms.cli.checkpoints import with_resume
from dms.cli.core import Command, Group, State, command, pass_state
from dms.cli.failure import Failure, say
from dms.cli.job_files import get, read_request, set_all
from dms.cli.job_options import DEFAULTS, described, describing, with_own_command
from dms.cli.job_paying import Asking, Paying, ask_and_pay, asking, pay, paying
from dms.cli.job_progress import About
from dms.cli.job_template import TEMPLATES, template
from dms.cli.references import JobReference, is_reference, job_argument, job_id_of
from dms.cli.text import in_path
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.cli.client import Api

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


def _add_run(group: Group) -> None:
    @command(group, "run", _RUN_EXAMPLE, cls=RunCommand)
    @click.argument("file", type=click.File("rb"), required=False)
    @describing
    @click.option(
        "--resume", metavar="FILE|JOB", type=JobReference(), help="Go on from this checkpoint, or that of this job."
    )
    @asking
    @paying
    @pass_state
    @click.pass_context
    def run(
        context: click.Context,
        state: State,
        /,
        *,
        file: IO[bytes] | None,
        resume: str | None,
        asking: Asking,
        paying: Paying,
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
        described_so_far = copy.deepcopy(dict(DEFAULTS)) if file is None else read_request(file)
        request = described(described_so_far, given, context.meta[_ARGUMENTS])
        if file is None:
            request = with_own_command(request)
        checkpoint = job_id_of(state, resume) if resume and is_reference(resume) else resume
        request = with_resume(request, checkpoint)
        return ask_and_pay(state, request, asking, paying)


def _add_rerun(group: Group) -> None:
    @command(group, "rerun", "nunet job rerun @last --set constraints.time=20 --wait")
    @click.option(
        "--set", "settings", multiple=True, metavar="PATH=VALUE", help="Change a field, such as constraints.time=20."
    )
    @asking
    @paying
    @pass_state
    @job_argument
    def rerun(state: State, *, job_id: str, settings: tuple[str, ...], asking: Asking, paying: Paying) -> int:
        """Request the same job again, as a new one. It is quoted and paid for anew.

        JOB is a job that this node requested. Values of secret environment variables are not kept: set them again with
        --set params.secret_env.NAME=VALUE.
        """
        request, secrets = _request_of(state.api(), job_id)
        set_all(request, settings)
        _look_for_secrets(request, secrets, needed=not (asking.quote or asking.dry_run))
        return ask_and_pay(state, request, asking, paying)


def _add_fund(group: Group) -> None:
    @command(group, "fund", "nunet job fund <job-id> --tx-hash <hash> --wait")
    @paying
    @pass_state
    @job_argument
    def fund(state: State, *, job_id: str, paying: Paying) -> int:
        """Report the payment for a job quoted earlier, and run it."""
        if not paying.tx_hash and not paying.trust:
            raise Failure("a payment is missing", Exit.USAGE, "give its transaction with --tx-hash")
        job = _awaited(state.api(), job_id)
        about = About(provider=str(job.get("peer") or ""), price=job.get("price"), minutes=int(job.get("minutes") or 0))
        return pay(state, job_id, about, paying)


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


# --- jobs that are there already -------------------------------------------------------------------------
def _awaited(api: Api, job_id: str) -> dict[str, Any]:
    """The job. Raises Failure for one that was paid before: its `job-submitted` would be taken for this payment's."""
    job: dict[str, Any] = api.get(f"/jobs/{in_path(job_id)}")
    if job["status"] not in ("awaiting", "funding"):
        hint = f"nunet job why {job_id}"
        raise Failure(f"job {job_id} awaits no payment: it is {job['status']}", Exit.CONFLICT, hint)
    return job


def _request_of(api: Api, job_id: str) -> tuple[dict[str, Any], list[str]]:
    """As it was asked for, without the payment, and the names of the secrets that it had. Raises Failure when it can't
    be asked for again."""
    found = api.get(f"/jobs/{in_path(job_id)}/request", personal=True)
    return found["request"], found["secrets"]


def _look_for_secrets(request: dict[str, Any], names: list[str], *, needed: bool) -> None:
    """needed: it is paid next. Raises Failure then when one was not given again, rather than run it without."""
    given = get(request, "params.secret_env") or {}
    missing = [name for name in names if name not in given]
    if not missing:
        return
    what = f"secret values are not kept: {', '.join(missing)}"
    how = "set them with " + " ".join(f"--set params.secret_env.{name}=VALUE" for name in missing)
    if needed:
        raise Failure(what, Exit.USAGE, f"{how}; an empty value will do")
    say(f"{what}; {how}")
