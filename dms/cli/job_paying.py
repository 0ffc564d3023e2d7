"""What commands share that ask for a job, pay it and wait for it: their options, and what is done in that order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import wraps
from typing import Any

import click

from dms.cli.core import F, State, can_ask
from dms.cli.failure import Failure, say
from dms.cli.job_files import get
from dms.cli.job_options import Duration
from dms.cli.job_progress import About
from dms.cli.job_quote import asked_for, print_dry_run, print_quote
from dms.errors import Exit


@dataclass(frozen=True, kw_only=True)
class Paying:
    """How a job is paid and waited for. trust: a made-up transaction is reported. timeout: seconds."""

    tx_hash: str | None
    trust: bool
    wait: bool
    timeout: float | None

    def __post_init__(self) -> None:
        if self.tx_hash is not None and self.trust:
            raise click.UsageError("--tx-hash and --trust exclude each other")
        if self.tx_hash is not None and not self.tx_hash.strip():
            raise click.UsageError("--tx-hash is empty")


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a job is asked for. quote: it is not paid; dry_run: it is not even asked for."""

    quote: bool
    dry_run: bool
    strict: bool


def paying(function: F) -> F:
    """Decorator: the options of a command that pays a job and may wait for it; they come in as `paying`."""
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
    return _gathered(function, options, "paying", Paying)


def asking(function: F) -> F:
    """Decorator: the options of a command that asks for a new job; they come in as `asking`."""
    options = [
        click.option("--quote", is_flag=True, help="Only ask for the price; pay later with `job fund`."),
        click.option("--dry-run", is_flag=True, help="Only show the price and the provider, and why; record nothing."),
        click.option("--strict", is_flag=True, help="Treat warnings, such as of unknown keys, as errors."),
    ]
    return _gathered(function, options, "asking", Asking)


def _gathered(function: F, options: list[Callable[[Any], Any]], name: str, kind: type[Paying | Asking]) -> F:
    """The options' values come in as one."""

    @wraps(function)
    def gathering(*args: Any, **given: Any) -> Any:
        values = {field.name: given.pop(field.name) for field in fields(kind)}
        return function(*args, **given, **{name: kind(**values)})

    found: Any = gathering
    for option in reversed(options):
        found = option(found)
    return found  # type: ignore[no-any-return]  # it takes what the function takes, but for these


def ask_and_pay(state: State, request: Mapping[str, Any], asking: Asking, paying: Paying) -> int:
    """The exit code. Raises Failure."""
    api = state.api()
    if asking.dry_run:
        print_dry_run(state, asked_for(api, "/run/request-service/dry-run", request, strict=asking.strict))
        return Exit.OK
    offer = asked_for(api, "/run/request-service", request, strict=asking.strict)
    about = _about(request, offer)
    say(f"job {offer['job_id']}: {about.price} NTX, provider {about.provider}")
    _warn_of_attempts(request, offer)
    if asking.quote:
        print_quote(state, offer)
        return Exit.OK
    if not paying.trust and not paying.tx_hash:
        paying = replace(paying, tx_hash=_typed_hash(state, offer))
    return pay(state, str(offer["job_id"]), about, paying)


def pay(state: State, job_id: str, about: About, paying: Paying) -> int:
    """The exit code. Raises Failure. paying: with a hash, or trust."""
    from dms.cli.job_watch import Watched

    if paying.trust:
        say("nothing is paid: a made-up transaction is reported, which only the funding check `trust` believes")
    paid_with = paying.tx_hash or f"unpaid-{job_id}"
    return Watched(state, job_id, about, wait=paying.wait).pay_and_follow(paid_with, paying.timeout)


def _about(request: Mapping[str, Any], offer: Mapping[str, Any]) -> About:
    found = dict(request)
    minutes, inputs = get(found, "constraints.time"), get(found, "params.inputs")
    return About(
        provider=str(offer.get("compute_provider_id") or offer["compute_provider_addr"]),
        price=offer["estimated_price"],
        most_ntx=request.get("max_ntx"),
        minutes=minutes if isinstance(minutes, int) else 0,
        inputs=len(inputs) if isinstance(inputs, list) else 0,
    )


def _warn_of_attempts(request: Mapping[str, Any], offer: Mapping[str, Any]) -> None:
    asked, most = get(dict(request), "retry.max_attempts"), offer.get("attempts", 1)
    if isinstance(asked, int) and asked > most:
        say("warning: it is tried once: its payment goes to the provider's own address, and can't be carried over")


def _typed_hash(state: State, offer: Mapping[str, Any]) -> str:
    """Asks for it. Raises Failure where nobody can be asked: the quote stays open for its time."""
    job_id = offer["job_id"]
    later = f"pay, then: nunet job fund {job_id} --tx-hash <hash>    (to try it out without money: --trust)"
    if not can_ask():
        print_quote(state, offer)
        raise Failure("the job waits for its payment: no --tx-hash was given", Exit.USAGE, later)
    try:
        typed = click.prompt("Pay, then type the transaction's hash", type=str, err=True)
    except click.Abort:
        say("\n" + later)
        raise
    return str(typed).strip()
