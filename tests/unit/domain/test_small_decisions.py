"""Aggregates of few events: holds, payments, erasures; and what is asked of jobs and devices in passing."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec
import pytest

from dms.domain.aggregate import Aggregate
from dms.domain.checkpoint import ResumeFrom
from dms.domain.deployment import Deployment, Fault
from dms.domain.device import Capacity, Device, Offer, no_capacity, why_closed
from dms.domain.erasure import Erasure
from dms.domain.event import Event, Recorded, decode, new_id
from dms.domain.hold import Hold
from dms.domain.job import Job
from dms.domain.payment import Payment
from dms.domain.reservations import Reservations
from dms.domain.resources import Resources
from dms.domain.retention import is_closable, is_closed
from dms.domain.run_time import Instant
from dms.domain.transfer import Direction, Transfer
from dms.errors import Conflict, InvalidInput, PeerMisbehaved
from tests.fixtures.histories import START, new_job, paid, request, running_job, submitted_job

A = "a" * 64
SAVED = Deployment.ResultsSaved(name="n" * 300, size_bytes=5 << 20, sha256=A, saved_at=START, files=2)


def told(aggregate: Aggregate) -> list[Event]:
    return [event for _, event in aggregate.pending]


# --- holds, payments, erasures --------------------------------------------------------------------------
def test_a_hold_is_placed_and_ended_once() -> None:
    hold = Hold("job")
    assert not hold.end("expired")
    reserved = Resources(cpu_mhz=1)
    hold.place("asker", reserved, ("g",), START, gpus_shared=True)
    assert (hold.asker, hold.reserved, hold.gpu_uuids, hold.gpus_shared, hold.expires_at) == (
        "asker", reserved, ("g",), True, START,
    )  # fmt: skip
    assert hold.held
    assert hold.end("expired")
    assert told(hold)[-1] == Hold.Ended(reason="expired")
    assert not hold.held
    assert not hold.end("expired")


def test_a_new_hold_holds_nothing() -> None:
    hold = Hold("job")
    assert (hold.asker, hold.reserved, hold.gpu_uuids, hold.gpus_shared, hold.expires_at) == (
        "", Resources(), (), False, 0,
    )  # fmt: skip


def test_of_each_job_that_it_paid_for_a_payment_is_hidden_once() -> None:
    payment = Payment("0xab")
    assert not payment.hide(["job"])
    payment.use("job")
    assert payment.hide(["job", "another"])
    assert told(payment)[-1] == Payment.Hidden(job_id="job")
    assert not payment.hide(["job"])
    payment.use("next", free=True)
    assert not payment.hide(["job"]), "it is hidden already"
    assert payment.hide(["next"])
    assert told(payment)[-1] == Payment.Hidden(job_id="next")


def test_an_erasure_is_complete_once() -> None:
    erasure = Erasure("e")
    assert not erasure.completed
    erasure.request(("job-1", "job-2"))
    assert told(erasure) == [Erasure.Requested(scopes=("job-1", "job-2"))]
    erasure.complete(2, 3)
    erasure.complete(4, 5)
    assert erasure.completed
    assert told(erasure)[1:] == [Erasure.Completed(keys=2, files=3)]


# --- jobs ---------------------------------------------------------------------------------------------
def test_a_payment_that_is_no_good_ends_the_job() -> None:
    job = new_job()
    job.report_fund_status(paid("0xCD"))
    job.reject_funding("too little")
    assert told(job)[-2:] == [
        Job.FundingRejected(tx_hash=job.tx_hash, reason="too little"),
        Job.Failed(reason="too little", fault=Fault.REQUESTER),
    ]
    assert job.tx_hash.casefold().endswith("cd")


def test_a_job_that_is_not_paid_in_time() -> None:
    job = new_job()
    job.expire("not paid in time")
    assert told(job)[-1] == Job.Expired(reason="not paid in time")


def test_a_provider_is_away_and_back_once_each() -> None:
    job, then = running_job(), Instant("boot", 1, START)
    assert not job.provider_returned(then)
    assert job.provider_unreachable("silent", then)
    assert told(job)[-1] == Job.ProviderUnreachable(reason="silent", since=then)
    assert not job.provider_unreachable("silent", then)
    assert job.provider_returned(then)
    assert told(job)[-1] == Job.ProviderReturned(at=then)
    assert not job.provider_returned(then)


def test_one_without_a_provider_has_none_that_is_away() -> None:
    job = Job(new_id())
    assert not job.provider_unreachable("silent")
    assert not job.provider_returned()


def offered_results(job: Job) -> Job.ResultsOffered:
    assert isinstance(job.results_offered, Job.ResultsOffered)
    return job.results_offered


def test_results_are_offered_received_and_removed() -> None:
    job = running_job()
    job.offer_results(SAVED, START + 5, max_bytes=5 << 20)
    assert told(job)[-1] == Job.ResultsOffered(
        name="n" * 255, size_bytes=5 << 20, sha256=A, saved_at=START, fetch_until=START + 5, files=2
    )
    assert not job.remove_results("old")
    offered = offered_results(job)
    assert job.results_are_here(offered, "here", START + 1)
    assert told(job)[-1] == Job.ResultsReceived(name="here", size_bytes=5 << 20, sha256=A, received_at=START + 1)
    assert not job.results_are_here(offered, "here", START + 1)
    assert not job.lose_results(offered, "late")
    assert not job.remove_results("old")  # it is still running
    job.trigger(Job.Completed(duration_seconds=1.0))
    assert job.remove_results("old")
    assert told(job)[-1] == Job.ResultsRemoved(reason="old")
    assert not job.remove_results("old")


def test_results_that_are_too_large_are_not_fetched() -> None:
    job = running_job()
    job.offer_results(SAVED, START, max_bytes=(5 << 20) - 1)
    assert told(job)[-1] == Job.ResultsLost(reason="they have 5 MiB, more than job.results_max_mb allows")
    assert not job.results_are_here(offered_results(job), "here", START)


@pytest.mark.parametrize(("size_bytes", "sha256"), [(0, A), (-1, A), (1, "x"), (1, "")])
def test_results_that_make_no_sense(size_bytes: int, sha256: str) -> None:
    job = running_job()
    saved = Deployment.ResultsSaved(name="x", size_bytes=size_bytes, sha256=sha256, saved_at=START)
    with pytest.raises(PeerMisbehaved, match=f"job {job.key}: its results have no valid size or digest"):
        job.offer_results(saved, START, max_bytes=9)
    job.trigger(Job.Completed(duration_seconds=1.0))
    before = len(job.pending)
    job.offer_results(saved, START, max_bytes=9)  # of one that is over nothing is wanted
    assert len(job.pending) == before


# --- devices ------------------------------------------------------------------------------------------
TOTAL = Capacity(cpu_mhz=10_000, memory_mb=10_000, cores=4)


def onboarded() -> Device:
    device = Device("peer")
    device.onboard(Offer(cpu_mhz=5_000, memory_mb=5_000, channel="nunet-test", payment_address="addr"), TOTAL)
    return device


def test_another_offer_of_the_same_device() -> None:
    device = onboarded()
    device.change_resources(6_000, 4_000, Decimal("0.5"))
    assert told(device)[-1] == Device.ResourcesChanged(cpu_mhz=6_000, memory_mb=4_000, ntx_price="0.5")
    for wrong in ((99_000, 4_000, Decimal(1)), (6_000, 99_000, Decimal(1)), (6_000, 4_000, Decimal(-1))):
        with pytest.raises(InvalidInput):
            device.change_resources(*wrong)
    with pytest.raises(Conflict, match="not onboarded"):
        Device("peer").change_resources(6_000, 4_000, Decimal(1))


def test_a_tiny_price_is_recorded_as_a_plain_decimal() -> None:
    device = onboarded()
    device.change_resources(6_000, 4_000, Decimal("1E-7"))
    device.onboard(
        Offer(cpu_mhz=5_000, memory_mb=5_000, channel="nunet-test", payment_address="addr", ntx_price=Decimal("2E-8")),
        TOTAL,
    )
    prices = [
        event.ntx_price for event in told(device) if isinstance(event, Device.ResourcesChanged | Device.Onboarded)
    ]
    assert prices[-2:] == ["0.0000001", "0.00000002"]


def test_an_offer_of_an_older_log_has_the_memory_of_all_its_gpus() -> None:
    gpus = [{"name": "a", "free_vram_mb": 3000}, {"name": "b", "free_vram_mb": 1000, "total_vram_mb": 8000}]
    total = {"cpu_mhz": 10_000, "memory_mb": 9_000, "cores": 4}
    body = {"cpu_mhz": 5_000, "memory_mb": 4_000, "channel": "nunet-test", "payment_address": ""}
    for more, vram_mb in (({"gpus": gpus}, 4000), ({"gpus": []}, 0), ({}, 0)):
        found = decode(Device.Onboarded.TOPIC, 1, msgspec.json.encode(body | {"total": total | more}))
        assert isinstance(found, Device.Onboarded)
        assert found.offered == Resources(cpu_mhz=5_000, memory_mb=4_000, vram_mb=vram_mb)
        assert (found.total.memory_mb, found.channel) == (9_000, "nunet-test")


def test_the_provider_that_is_asked_by_default() -> None:
    device = Device("peer")
    assert device.change_default_provider("other")
    assert told(device) == [Device.DefaultProviderChanged(peer_id="other")]
    assert not device.change_default_provider("other")
    assert device.change_default_provider("")
    with pytest.raises(Conflict, match="self"):
        device.change_default_provider("peer")


@pytest.mark.parametrize(
    ("onboarded", "available", "hindrance", "told"),
    [
        (False, False, "disk", ["the provider is not onboarded"]),
        (True, False, "disk", ["the provider is offline", "disk"]),
        (True, False, "", ["the provider is offline"]),
        (True, True, "disk", ["disk"]),
        (True, True, "", []),
    ],
)
def test_why_a_machine_takes_nothing(onboarded: bool, available: bool, hindrance: str, told: list[str]) -> None:
    assert why_closed(onboarded, available, hindrance) == told


def test_what_there_is_too_little_of() -> None:
    assert no_capacity(["cpu", "memory"]) == "the provider has no capacity left: cpu; memory"


def test_two_kinds_of_reservations_together() -> None:
    one, other = Reservations(), Reservations()
    one.hold("a", Resources(cpu_mhz=1), ("g",), shared=True)
    other.hold("b", Resources(cpu_mhz=2), ("g", "h"))
    other.hold("c", Resources(cpu_mhz=4))
    both = one.beside(other, but="c")
    assert sorted(both) == ["a", "b"]
    assert both.total == Resources(cpu_mhz=3)
    assert both.gpu_jobs() == {"g": ("a", "b"), "h": ("b",)}
    assert both._held["a"].shared
    assert "a" in both
    assert "c" not in both
    assert sorted(one.beside(other)) == ["a", "b", "c"]
    assert list(one) == ["a"]


# --- what can be archived -----------------------------------------------------------------------------
def recorded(aggregate: Aggregate) -> tuple[str, Sequence[Recorded]]:
    stream = f"{aggregate.KIND}-{aggregate.key}"
    return stream, [
        Recorded(number, stream, number, event.TOPIC, event.VERSION, START, b"", b"", b"", "", b"", b"", event)
        for number, event in enumerate(told(aggregate), 1)
    ]


def closed(aggregate: Aggregate) -> bool:
    return is_closed(*recorded(aggregate))


@pytest.mark.parametrize(
    ("stream", "closable"),
    [
        ("job-1", True),
        ("deployment-1", True),
        ("transfer-1", True),
        ("hold-1", True),
        ("device-1", False),
        ("payment-1", False),
        ("erasure-1", False),
        ("provider-1", False),
        ("token-1", False),
    ],
)
def test_which_streams_end(stream: str, closable: bool) -> None:
    assert is_closable(stream) is closable


def test_a_job_is_closed_once_it_is_over() -> None:
    job = submitted_job()
    assert not closed(job)
    job.trigger(Job.Failed(reason="x", fault=Fault.PROVIDER))
    assert closed(job)
    assert not is_closed("job-1", [])


def test_a_deployment_is_closed_once_it_is_over() -> None:
    deployment = Deployment(new_id())
    deployment.ask("owner", request(), "1")
    assert not closed(deployment)
    deployment.refuse("no")
    assert closed(deployment)
    assert not is_closed("deployment-1", [])


def test_a_transfer_is_closed_once_it_is_over() -> None:
    transfer = Transfer(new_id())
    transfer.offer(Direction.IN, "peer", "a", 1, A, Instant("", 0, START))
    assert not closed(transfer)
    transfer.fail("x")
    assert closed(transfer)
    assert not is_closed("transfer-1", [])


def test_a_hold_is_closed_until_it_is_placed_once_more() -> None:
    hold = Hold(new_id())
    hold.place("asker", Resources(), (), START, gpus_shared=False)
    assert not closed(hold)
    hold.end("not paid in time")
    assert closed(hold)
    hold.place("asker", Resources(), (), START, gpus_shared=False)
    assert not closed(hold)
    assert not is_closed("hold-1", [])


def test_what_never_ends_is_never_closed() -> None:
    assert not closed(onboarded())


def test_an_aggregate_is_made_of_its_events_alone() -> None:
    device = onboarded()
    _, events = recorded(device)
    found = Device.project(None, events)
    assert found is not None
    assert (found.key, found.onboarded) == ("peer", True)
    assert Device.project(None, []) is None
    assert Device.project(found, []) is found


def test_what_jobs_left_behind_takes_memory_until_it_is_cleared() -> None:
    found = Reservations()
    found.hold("a", Resources(cpu_mhz=1, memory_mb=100))
    found.leave("a", 30)
    found.leave("nobody", 99)
    found.occupy("b", 5)
    found.occupy("b", 7)  # in place of what was known of it
    assert (found.left, set(found.left_by), len(found)) == (Resources(memory_mb=37), {"a", "b"}, 0)
    found.clear("a")
    found.clear("nobody")
    assert (found.left, tuple(found.left_by)) == (Resources(memory_mb=7), ("b",))


def test_a_workspace_is_restored_once_from_the_checkpoint_that_was_named() -> None:
    resume = ResumeFrom(name="a.tar.gz", size_bytes=1, sha256="ab" * 32)
    deployment = Deployment("key")
    deployment.workspace_restored()
    assert not told(deployment), "there was nothing to restore"
    deployment.apply(Deployment.Requested(service_provider="p", request=request(), price="1", resume=resume))
    deployment.apply(Deployment.Accepted(reserved=Resources()))
    deployment.workspace_restored()
    deployment.workspace_restored()
    assert told(deployment) == [Deployment.WorkspaceRestored(name="a.tar.gz", sha256="ab" * 32)]
