"""Rewards: shares that add up, grow with the work done, and are the same on both sides."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.domain.deployment import Deployment, Fault
from dms.domain.event import Event, Recorded, decode, encode, new_id
from dms.domain.job import FundStatus, Job
from dms.domain.resources import Resources
from dms.domain.reward import (
    Outcome,
    Reward,
    RewardType,
    amount,
    from_units,
    reward,
    reward_type,
    split,
    to_units,
)
from dms.errors import Conflict, InvalidInput
from projections.transactions import TransactionRow, Transactions
from tests.fixtures.histories import Author, request

PRICES = st.decimals(min_value=0, max_value=10**12, places=8)
SECONDS = st.floats(min_value=0, max_value=1e7, allow_nan=False)
MINUTES = st.integers(1, 5_256_000)
OUTCOMES = st.builds(Outcome, completed=st.booleans(), provider_fault=st.booleans(), duration_seconds=SECONDS)


# --- the evidence of the original ----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("completed", "minutes", "kind"),
    [
        (True, 55, "withdraw"),
        (True, 0.1, "withdraw"),
        (False, 1, "refund"),
        (False, 29.99, "refund"),
        (False, 30, "distribute-50"),
        (False, 44.99, "distribute-50"),
        (False, 45, "distribute-75"),
        (False, 60, "distribute-75"),
        (False, 600, "distribute-75"),
    ],
)
def test_of_sixty_minutes(completed: bool, minutes: float, kind: str) -> None:
    assert reward_type(Outcome(completed=completed, duration_seconds=minutes * 60), 60) == kind


def test_a_provider_that_failed_gets_nothing_however_long_it_ran() -> None:
    found = reward("8", 60, Outcome(provider_fault=True, duration_seconds=3599))
    assert (found.reward_type, found.to_provider, found.to_requester) == ("refund", "0", "8")


def test_what_does_not_divide_goes_back_to_the_requester() -> None:
    found = reward("0.00000003", 1, Outcome(duration_seconds=30))
    assert (found.reward_type, found.to_provider, found.to_requester) == ("distribute-50", "0.00000001", "0.00000002")


# --- shares ----------------------------------------------------------------------------------------------
@given(PRICES, MINUTES, OUTCOMES)
def test_the_shares_are_the_price_to_the_last_place(price: Decimal, minutes: int, outcome: Outcome) -> None:
    found = reward(str(price), minutes, outcome)
    assert Decimal(found.to_provider) + Decimal(found.to_requester) == price == Decimal(found.price)
    assert Decimal(found.to_provider) >= 0 <= Decimal(found.to_requester)


@given(st.integers(0, 10**40), st.sampled_from(RewardType))
def test_shares_in_units_of_a_chain_add_up_too(total: int, kind: RewardType) -> None:
    provider, requester = split(total, kind)
    assert provider + requester == total
    assert provider <= total * kind.percent / 100 or total > 2**52


@given(PRICES, MINUTES, SECONDS, SECONDS)
def test_more_work_never_earns_less(price: Decimal, minutes: int, one: float, other: float) -> None:
    less, more = sorted((one, other))
    shares = [
        Decimal(reward(str(price), minutes, outcome).to_provider)
        for outcome in (
            Outcome(provider_fault=True, duration_seconds=more),
            Outcome(duration_seconds=less),
            Outcome(duration_seconds=more),
            Outcome(completed=True, duration_seconds=less),
        )
    ]
    assert shares == sorted(shares)


@given(PRICES, PRICES, MINUTES, OUTCOMES)
def test_a_higher_price_never_earns_less(one: Decimal, other: Decimal, minutes: int, outcome: Outcome) -> None:
    low, high = (reward(str(price), minutes, outcome) for price in sorted((one, other)))
    assert Decimal(low.to_provider) <= Decimal(high.to_provider)
    assert Decimal(low.to_requester) <= Decimal(high.to_requester)


@given(PRICES, st.integers(0, 36))
def test_units_are_never_worth_less_than_the_amount(price: Decimal, decimals: int) -> None:
    units = to_units(price, decimals)
    assert units >= price.scaleb(decimals) > units - 1 or units == price.scaleb(decimals)
    assert Decimal(from_units(units, decimals)) >= price or decimals < 8


@pytest.mark.parametrize(
    "text", ["", "x", "NaN", "Infinity", "-1", "1e16", "0.000000001", "1_0x", "1e-99999999", "0e999999999"]
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(InvalidInput, match="NTX"):
        amount(text)


# --- the same on both sides ------------------------------------------------------------------------------
ENDS = st.one_of(
    st.builds(
        Deployment.ContainerExited,
        exit_code=st.integers(0, 255) | st.just(0),
        oom_killed=st.booleans(),
        duration_seconds=SECONDS,
    ),
    st.builds(
        Deployment.Stopped,
        by=st.just("time limit"),
        reason=st.just("over"),
        fault=st.sampled_from(Fault),
        exit_code=st.none() | st.integers(0, 255),
        duration_seconds=SECONDS,
    ),
    st.builds(Deployment.Failed, reason=st.just("broken"), fault=st.sampled_from(Fault), duration_seconds=SECONDS),
    st.builds(Deployment.Rejected, reason=st.just("no room"), fault=st.sampled_from(Fault)),
)


@given(PRICES, st.integers(1, 10_000), st.booleans(), ENDS)
def test_both_sides_get_the_same_from_their_own_events(price: Decimal, minutes: int, ran: bool, end: Event) -> None:
    author, job_id = Author(), new_id()
    asked = request(time=minutes, tx_hash="ab", max_ntx=1e13)
    deployment = Deployment(job_id)
    deployment.ask("12D3KooWMine", asked, from_units(to_units(price, 8), 8), "0xPayee")
    if not isinstance(end, Deployment.Rejected):
        deployment.grant(Resources(), ())
        end = _led_to(deployment, end, ran or isinstance(end, Deployment.ContainerExited))
    deployment.trigger(end)
    theirs = [event for _, event in deployment.collect_pending()]

    job = Job(job_id)
    job.request_service(asked, author.peer_id, deployment.price, 10, (), 0, "0xPayee")
    job.report_fund_status(FundStatus(transaction_type="fund", transaction_status="success", tx_hash="ab"))
    job.accept_funding("trust")
    for event in theirs:
        job.report_from_provider(author.record(job_id, event), event)
    ours = [event for _, event in job.collect_pending()]

    assert deployment.reward is not None
    assert deployment.reward == job.reward
    assert deployment.claim_reward() == job.claim_reward()
    if not isinstance(end, Deployment.Rejected):
        assert shares(folded("deployment", job_id, theirs)) == shares(deployment.reward)
    assert shares(folded("job", job_id, ours)) == shares(deployment.reward)


def _led_to(deployment: Deployment, end: Event, ran: bool) -> Event:
    """The end, after all that has to come before it; without a run it lasted no time."""
    if ran:
        deployment.container_created("c1", "docker")
        deployment.container_started(1)
    if isinstance(end, Deployment.Stopped):
        deployment.request_stop(end.by, end.reason, end.fault)
    return end if ran else msgspec.structs.replace(end, duration_seconds=0.0)


def folded(kind: str, job_id: str, events: list[Event]) -> TransactionRow:
    """The view's row, from what a log would give back."""
    view, row = Transactions(), None
    for position, event in enumerate(events, 1):
        stored = decode(event.TOPIC, event.VERSION, encode(event))
        recorded = Recorded(
            position=position, originator_id=f"{kind}-{job_id}", originator_version=position, topic=event.TOPIC,
            schema_version=event.VERSION, time=position, id=b"", correlation=b"", causation=b"", traceparent="",
            data=b"", hash=b"", event=stored,
        )  # fmt: skip
        if view.key(recorded) is not None:
            row = view.apply(row, recorded)
    assert row is not None
    return row


def shares(found: Reward | TransactionRow) -> tuple[str, str, str]:
    return str(found.reward_type), found.to_provider, found.to_requester


# --- claims ------------------------------------------------------------------------------------------------
def running() -> Deployment:
    deployment = Deployment(new_id())
    deployment.accept("12D3KooWMine", request(), "0.5", Resources(), ())
    return deployment


def test_a_running_job_has_no_reward_yet() -> None:
    deployment = running()
    for ask in (deployment.claim_reward, lambda: deployment.settle_reward("done")):
        with pytest.raises(Conflict, match="the job is still running"):
            ask()


def test_a_reward_is_claimed_and_settled_once() -> None:
    deployment = running()
    deployment.trigger(Deployment.Failed(reason="x", fault=Fault.PROVIDER))
    assert deployment.claim_reward() == deployment.claim_reward()
    assert deployment.settle_reward("done")
    assert not deployment.settle_reward("refunded")
    topics = [event.TOPIC for _, event in deployment.collect_pending()]
    assert topics[-2:] == ["deployment.reward_claimed", "deployment.reward_settled"]


def test_an_old_log_without_the_new_fields_loads() -> None:
    old = msgspec.json.encode({"service_provider": "12D3KooW", "request": request(), "price": "1"})
    event = decode("deployment.requested", 1, old)
    assert isinstance(event, Deployment.Requested)
    assert event.payee == ""


# --- what is recorded of a reward ----------------------------------------------------------------------
def ended() -> tuple[Job, Deployment]:
    """After 45 of 60 minutes, with an error of the job's own: three quarters of 8 NTX."""
    job, deployment = Job("job"), Deployment("job")
    asked = request(time=60)
    for event in (
        Job.ServiceRequested(request=asked, provider="p", price="8", expires_at=0),
        Job.Failed(reason="", fault=Fault.JOB, duration_seconds=2700.0),
    ):
        job.apply(event)
    for other in (
        Deployment.Requested(service_provider="s", request=asked, price="8"),
        Deployment.Failed(reason="", fault=Fault.JOB, duration_seconds=2700.0),
    ):
        deployment.apply(other)
    return job, deployment


@pytest.mark.parametrize("side", [0, 1])
def test_a_claim_is_recorded_once_with_all_of_its_amounts(side: int) -> None:
    work = ended()[side]
    found = work.claim_reward()
    assert work.claim_reward() == found == work.reward
    ((_, event),) = work.pending
    assert event == work.CLAIMED(reward_type="distribute-75", price="8", to_provider="6", to_requester="2")


@pytest.mark.parametrize("side", [0, 1])
def test_a_settlement_is_recorded_once_with_its_transaction(side: int) -> None:
    work = ended()[side]
    assert work.settle_reward("distributed", "0xAB")
    assert not work.settle_reward("done")
    ((_, event),) = work.pending
    assert event == work.SETTLED(transaction_type="distributed", tx_hash="0xAB")
    other = ended()[side]
    assert other.settle_reward("done")
    assert other.pending[0][1] == work.SETTLED(transaction_type="done", tx_hash="")


@pytest.mark.parametrize("work", [Job("job"), Deployment("job")])
def test_nothing_is_claimed_or_settled_of_what_runs(work: Job | Deployment) -> None:
    for claim in (work.claim_reward, lambda: work.settle_reward("done")):
        with pytest.raises(Conflict, match=r"^the job is still running$"):
            claim()
    assert work.pending == []
