"""Bugs that were mended once, put back on purpose: what the simulation is worth is how soon it finds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakSet

import pytest

from dms.adapters.eventlog.aggregates import Aggregates
from dms.adapters.eventlog.durable_log import DurableEventLog
from dms.application.deployments.compute_provider import ComputeProvider
from dms.application.jobs.service_provider import ServiceProvider
from dms.application.reactors import Reaction
from dms.daemon import Daemon
from dms.domain.aggregate import Aggregate
from dms.domain.deployment import Deployment
from dms.domain.event import Recorded
from dms.domain.job import Job
from dms.domain.payment import Payment
from dms.domain.reservations import Reservations
from tests.simulation.run import Outcome, run_seed

MOST_SEEDS = 1000  # within which a bug has to be found


def capacity_is_counted_when_written(patch: pytest.MonkeyPatch) -> None:
    """Between a decision and its commit another one took the same capacity."""
    hold, let_go, restate = Aggregates.hold, Aggregates.let_go, Aggregates._restate

    def hold_unseen(self: Aggregates, aggregates: Sequence[Aggregate]) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Aggregates, "_restate", lambda *_: None)
            hold(self, aggregates)

    def let_go_and_tell(self: Aggregates, aggregates: Sequence[Aggregate]) -> None:
        let_go(self, aggregates)
        restate(self, aggregates)

    patch.setattr(Aggregates, "hold", hold_unseen)
    patch.setattr(Aggregates, "let_go", let_go_and_tell)


def capacity_is_forgotten_at_a_restart(patch: pytest.MonkeyPatch) -> None:
    """What running jobs hold was given to others after a crash."""
    patch.setattr(ComputeProvider, "take_up", lambda *_: None)


def a_payment_pays_twice(patch: pytest.MonkeyPatch) -> None:
    """Nothing kept what a payment was used for."""
    patch.setattr(Payment, "refusal", lambda *_, **__: "")


def who_reports_a_payment_wakes_its_check(patch: pytest.MonkeyPatch) -> None:
    """A client that was cut off as its report was written left a job that nobody looked at again."""
    _wake_by_command(patch, "funding of jobs", Job.FundStatusReported.TOPIC, ServiceProvider, "report_fund_status")


def who_asks_a_provider_wakes_its_check(patch: pytest.MonkeyPatch) -> None:
    """A connection that was cut as the provider recorded its answer left a deployment that nobody looked at again."""
    _wake_by_command(patch, "payments of deployments", Deployment.Requested.TOPIC, ComputeProvider, "request")


def a_repeated_answer_is_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    """Who asked again was told what a crash could still take back."""

    async def settled(self: DurableEventLog, aggregates: Sequence[Aggregate]) -> int:
        return self.head

    patch.setattr(DurableEventLog, "_settled", settled)


def a_restart_tells_no_provider_of_an_end(patch: pytest.MonkeyPatch) -> None:
    """That a provider had still to be told of was kept in memory."""

    async def none(self: Daemon) -> list[str]:
        return []

    patch.setattr(Daemon, "_untold", none)


def what_was_removed_in_silence_stays_counted(patch: pytest.MonkeyPatch) -> None:
    """The memory of a job whose container was removed, and whose engine could not say so, was never free again."""
    patch.setattr(Reservations, "left_by", ())


BUGS: Mapping[Callable[[pytest.MonkeyPatch], None], int] = {
    capacity_is_counted_when_written: 93,
    capacity_is_forgotten_at_a_restart: 56,
    a_payment_pays_twice: 1,
    who_reports_a_payment_wakes_its_check: 27,
    who_asks_a_provider_wakes_its_check: 43,
    a_repeated_answer_is_not_waited_for: 70,
    a_restart_tells_no_provider_of_an_end: 137,
    what_was_removed_in_silence_stays_counted: 56,
}
"""Where the hunt for each begins, so that it costs little: the first seed that found it. `python -m tests.simulation
--put-back` looks for them anew."""


def hunt(bug: Callable[[pytest.MonkeyPatch], None], first: int = 0) -> Outcome | None:
    """What finds it among the first MOST_SEEDS, all of which are looked through from `first` on."""
    with pytest.MonkeyPatch.context() as patch:
        bug(patch)
        outcomes = (run_seed(seed) for seed in (*range(first, MOST_SEEDS), *range(first)))
        return next((outcome for outcome in outcomes if outcome.failure), None)


def _wake_by_command(patch: pytest.MonkeyPatch, reactor: str, topic: str, service: type, command: str) -> None:
    """The event wakes nobody any more; the command does, once it is answered, and again changes nothing."""
    take, start, decide = Reaction.take, Reaction.start, getattr(service, command)
    reactions: WeakSet[Reaction[Any]] = WeakSet()
    begun = set[tuple[int, str]]()

    def take_unless_new(self: Reaction[Any], event: Recorded) -> None:
        if self._reactor.name != reactor or event.topic != topic:
            take(self, event)

    def start_and_keep(self: Reaction[Any], keys: Any) -> None:
        if self._reactor.name == reactor:
            reactions.add(self)
        start(self, keys)

    async def decide_and_wake(self: Any, *args: Any, **named: Any) -> Any:
        key = args[1] if isinstance(args[1], str) else args[1].job_id
        again = (id(self), key) in begun
        begun.add((id(self), key))
        answer = await decide(self, *args, **named)
        for reaction in reactions:
            if reaction._log is self._log and not again:
                reaction._look(key, None)
        return answer

    patch.setattr(Reaction, "take", take_unless_new)
    patch.setattr(Reaction, "start", start_and_keep)
    patch.setattr(service, command, decide_and_wake)
