"""The pure core: state machines, prices, matching, reservations, the chain."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.domain.chain import GENESIS, SignedRecord, check_record, id_bytes, id_text, link
from dms.domain.deployment import Deployment, Fault
from dms.domain.device import Capacity, Offer, check_offer
from dms.domain.directory import Offering
from dms.domain.event import Unknown, decode, new_id
from dms.domain.job import FundStatus, Job, JobState
from dms.domain.matching import match
from dms.domain.payment import Payment, payment_key
from dms.domain.pricing import estimate, price_text, quote
from dms.domain.request import Constraints, Params, ServiceRequest
from dms.domain.reservations import Reservations
from dms.domain.resources import Resources
from dms.errors import Conflict, InvalidInput, PeerMisbehaved

LOW = Constraints(complexity="Low", cpu=500, ram=2000, vram=2000, power=170, time=1)
REQUEST = ServiceRequest(
    service_type="ml-training-cpu",
    params=Params(image_id="example/image:1", machine_type="cpu"),
    constraints=LOW,
    max_ntx=10,
)
PAID = FundStatus(transaction_type="fund", transaction_status="success", tx_hash="ab")


def quoted() -> Job:
    job = Job(new_id())
    job.request_service(REQUEST, "12D3KooWOne", "0.02728", 10, (), 0)
    return job


# --- state machines ----------------------------------------------------------------------------------
def test_a_refused_command_changes_nothing() -> None:
    job = quoted()
    job.collect_pending()
    version = job.version
    with pytest.raises(Conflict):
        job.accept_funding("trust")
    assert (job.version, job.pending, job.state) == (version, [], JobState.AWAITING)


def test_the_same_payment_reported_again_is_no_second_report() -> None:
    job = quoted()
    assert job.report_fund_status(PAID)
    assert not job.report_fund_status(PAID)
    with pytest.raises(Conflict):
        job.report_fund_status(msgspec.structs.replace(PAID, tx_hash="cd"))


def test_pending_waits_and_anything_else_fails() -> None:
    waiting, failing = quoted(), quoted()
    waiting.report_fund_status(msgspec.structs.replace(PAID, transaction_status="pending"))
    failing.report_fund_status(msgspec.structs.replace(PAID, transaction_status="refused"))
    assert (waiting.state, failing.state) == (JobState.AWAITING, JobState.FAILED)


def test_a_status_in_words_of_the_clients_own_is_kept_only_where_it_is_sealed() -> None:
    job = quoted()
    said = msgspec.structs.replace(PAID, transaction_status="ask alice", transaction_type="for bob")
    assert job.report_fund_status(said)
    reported, failed = (event for _, event in job.pending[-2:])
    assert isinstance(reported, Job.FundStatusReported)
    assert (reported.transaction_status, reported.transaction_type) == ("other", "other")
    assert isinstance(failed, Job.Failed)
    assert "ask alice" in failed.reason


def test_a_stop_is_asked_for_once_and_names_who() -> None:
    deployment = Deployment(new_id())
    deployment.accept("12D3KooWOne", REQUEST, "1", REQUEST.resources, ())
    assert deployment.request_stop("time limit", "time limit of 1 min reached", Fault.REQUESTER)
    assert not deployment.request_stop("service provider", "changed my mind", Fault.REQUESTER)
    deployment.stopped()
    end = deployment.pending[-1][1]
    assert isinstance(end, Deployment.Stopped)
    assert end.by == "time limit"


# --- price and matching ------------------------------------------------------------------------------
def test_price_of_the_low_preset() -> None:
    assert price_text(estimate(LOW)) == "0.02728"


def test_the_larger_of_estimate_and_the_providers_own_price() -> None:
    assert quote(LOW, Decimal("0")) == Decimal("0.02728")
    assert quote(LOW, Decimal("1.5")) == Decimal("1.5")


def test_unknown_complexity_is_refused() -> None:
    with pytest.raises(InvalidInput, match="Low, Moderate, High"):
        estimate(msgspec.structs.replace(LOW, complexity="Extreme"))


def offering(**changes: object) -> Offering:
    free = Resources(cpu_mhz=500, memory_mb=2000)
    whole = Offering(channel="nunet-test", online=True, onboarded=True, total=free, offered=free)
    return msgspec.structs.replace(whole, **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"channel": "nunet-edge"}, "channel"),
        ({"online": False}, "offline"),
        ({"onboarded": False}, "not onboarded"),
        ({"reserved": Resources(cpu_mhz=1)}, "500 MHz CPU asked, 499 free"),
        ({"reserved": Resources(memory_mb=1)}, "2000 MB memory asked, 1999 free"),
        ({"ntx_price": "11"}, "above the maximum"),
    ],
)
def test_each_refusal_has_its_reason(changes: dict[str, object], reason: str) -> None:
    found = match(REQUEST, [("12D3KooWOne", offering(**changes))], "nunet-test")
    assert not found.candidates
    assert reason in found.refused[0].reason


def test_an_exact_fit_matches_and_vram_of_a_cpu_job_does_not_count() -> None:
    assert match(REQUEST, [("12D3KooWOne", offering())], "nunet-test").candidates


def test_cheapest_first_then_the_lower_peer_id() -> None:
    offers = [("c", offering(ntx_price="2")), ("b", offering(ntx_price="1")), ("a", offering(ntx_price="1"))]
    assert [c.peer_id for c in match(REQUEST, offers, "nunet-test").candidates] == ["a", "b", "c"]
    assert [c.peer_id for c in match(REQUEST, offers, "nunet-test", target="c").candidates] == ["c"]


# --- capacity ------------------------------------------------------------------------------------------
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 1000)), max_size=40))
def test_reservations_are_the_sum_of_what_is_held(steps: list[tuple[bool, int, int]]) -> None:
    reservations, held = Reservations(), dict[str, int]()
    for hold, number, cpu_mhz in steps:
        if hold:
            reservations.hold(str(number), Resources(cpu_mhz=cpu_mhz))
            held.setdefault(str(number), cpu_mhz)
        else:
            reservations.release(str(number))
            held.pop(str(number), None)
        assert reservations.total == Resources(cpu_mhz=sum(held.values()))


@pytest.mark.parametrize(("cpu_mhz", "fits"), [(999, False), (1000, True), (9000, True), (9001, False)])
def test_onboarding_takes_a_tenth_to_nine_tenths(cpu_mhz: int, fits: bool) -> None:
    offer = Offer(cpu_mhz=cpu_mhz, memory_mb=5000, channel="nunet-test", payment_address="addr")
    total = Capacity(cpu_mhz=10_000, memory_mb=10_000, cores=4)
    if fits:
        check_offer(offer, total)
    else:
        with pytest.raises(InvalidInput, match="between 10% and 90%"):
            check_offer(offer, total)


# --- payments, ids, chain ------------------------------------------------------------------------------
def test_all_spellings_of_a_hash_are_one_payment() -> None:
    assert {payment_key(text) for text in ("0xAB", "ab", " AB ", "Ab")} == {"ab"}


def test_a_payment_pays_for_one_job() -> None:
    payment = Payment("ab")
    payment.use("one")
    payment.use("one")
    assert len(payment.collect_pending()) == 1
    with pytest.raises(Conflict, match="used already"):
        payment.use("two")


def test_ids_are_uuid7_and_sort_by_age() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert {(UUID(i).version, UUID(i).variant) for i in ids} == {(7, UUID(ids[0]).variant)}
    assert id_text(id_bytes(ids[0])) == ids[0]


def test_a_topic_or_version_of_the_future_is_kept_raw() -> None:
    unknown = decode("job.teleported", 1, b'{"to": "moon"}')
    newer = decode("job.submitted", 99, b'{"providers": []}')
    assert isinstance(unknown, Unknown)
    assert unknown.body == {"to": "moon"}
    assert isinstance(newer, Unknown)


def signed(**changes: object) -> SignedRecord:
    event_id = new_id()
    data = '{"digest":"sha256:0"}'
    made = link(GENESIS, 3, b"deployment-x", 1, b"t", 1, 5, id_bytes(event_id), b"", b"", b"", data.encode())
    record = SignedRecord(
        position=3,
        stream="deployment-x",
        version=1,
        topic="t",
        schema_version=1,
        time=5,
        event_id=event_id,
        correlation_id="",
        causation_id="",
        traceparent="",
        data=data,
        previous=GENESIS.hex(),
        hash=made.hex(),
        signature="00",
    )
    return msgspec.structs.replace(record, **changes)


def test_a_signed_record_is_what_it_says() -> None:
    check_record(signed(), "peer", lambda *_: True)


@pytest.mark.parametrize(
    "changes",
    [
        {"position": 4}, {"stream": "deployment-y"}, {"version": 2}, {"topic": "u"}, {"schema_version": 2}, {"time": 6},
        {"event_id": new_id()}, {"correlation_id": new_id()}, {"causation_id": new_id()}, {"traceparent": "00-x"},
        {"data": "{}"}, {"previous": "11" * 32}, {"hash": "22" * 32}, {"signature": "zz"}, {"position": -1},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_any_changed_field_of_a_record_is_found(changes: dict[str, object]) -> None:
    with pytest.raises(PeerMisbehaved):
        check_record(signed(**changes), "peer", lambda *_: True)


def test_a_record_that_its_peer_did_not_sign_is_refused() -> None:
    with pytest.raises(PeerMisbehaved, match="without its signature"):
        check_record(signed(), "peer", lambda *_: False)
