"""What deployments record when they are told something: each fact as it was given, once, and nothing after the end."""

from __future__ import annotations

import pytest

from dms.domain.deployment import Deployment, Fault
from dms.domain.event import Event, new_id
from dms.domain.network import Network
from dms.domain.resources import Resources
from tests.fixtures.histories import START, request

A = "a" * 64


def asked() -> Deployment:
    deployment = Deployment(new_id())
    deployment.ask("owner", request(tx_hash="0xAB"), "1")
    return deployment


def accepted() -> Deployment:
    deployment = asked()
    deployment.grant(Resources(), ())
    return deployment


def running() -> Deployment:
    deployment = accepted()
    deployment.container_created("c", "docker")
    deployment.container_started(START)
    return deployment


def ended() -> Deployment:
    deployment = running()
    deployment.seal_log(0, "", truncated=False)
    deployment.exited(0, oom_killed=False, duration_seconds=1.0)
    return deployment


def last(deployment: Deployment) -> Event:
    return deployment.pending[-1][1]


def count(deployment: Deployment) -> int:
    return len(deployment.pending)


# --- the answer ---------------------------------------------------------------------------------------
def test_a_request_is_granted_as_it_was_decided() -> None:
    deployment = asked()
    reserved = Resources(cpu_mhz=1, memory_mb=2, vram_mb=3)
    deployment.grant(reserved, ("g",), gpus_shared=True, network=Network.INTERNET)
    assert last(deployment) == Deployment.Accepted(
        reserved=reserved, gpu_uuids=("g",), gpus_shared=True, network="internet"
    )


def test_a_request_is_refused_as_it_was_decided() -> None:
    deployment = asked()
    deployment.refuse("no room")
    assert last(deployment) == Deployment.Rejected(reason="no room", fault=Fault.PROVIDER)
    assert deployment.ended
    other = Deployment(new_id())
    made = request()
    other.reject("owner", made, "2", "too cheap", Fault.REQUESTER)
    assert [event for _, event in other.pending] == [
        Deployment.Requested(service_provider="owner", request=made, price="2", payee=""),
        Deployment.Rejected(reason="too cheap", fault=Fault.REQUESTER),
    ]
    third = Deployment(new_id())
    third.reject("owner", made, "2", "full")
    assert last(third) == Deployment.Rejected(reason="full", fault=Fault.PROVIDER)


def test_a_payment_is_accepted_once() -> None:
    deployment = asked()
    deployment.accept_funding("ledger", "payer", "7", 3)
    assert last(deployment) == Deployment.FundingAccepted(
        tx_hash="0xAB", check="ledger", payer="payer", units="7", block=3
    )
    before = count(deployment)
    deployment.accept_funding("ledger", "payer", "7", 3)
    assert count(deployment) == before


def test_what_a_payment_waits_for_is_told_once() -> None:
    deployment = asked()
    assert deployment.wait_for_funding("not there yet", START)
    assert last(deployment) == Deployment.FundingPending(reason="not there yet", until=START)
    assert not deployment.wait_for_funding("not there yet", START)
    assert deployment.wait_for_funding("not there yet", START + 1)
    assert deployment.wait_for_funding("two blocks", START + 1)
    deployment.refuse("no")
    assert not deployment.wait_for_funding("three blocks", START)


# --- the run ------------------------------------------------------------------------------------------
def test_an_image_is_told_once_and_not_after_the_end() -> None:
    deployment = accepted()
    deployment.image_pulled("sha256:1", "busybox", "id", fetched=True)
    assert last(deployment) == Deployment.ImagePulled(digest="sha256:1", image="busybox", image_id="id", fetched=True)
    before = count(deployment)
    deployment.image_pulled("sha256:2")
    assert count(deployment) == before
    refused = asked()
    refused.refuse("no")
    before = count(refused)
    refused.image_pulled("sha256:1")
    assert count(refused) == before


def test_an_image_that_was_there_has_no_more_than_a_digest() -> None:
    deployment = accepted()
    deployment.image_pulled("sha256:1")
    assert last(deployment) == Deployment.ImagePulled(digest="sha256:1", image="", image_id="", fetched=False)


def test_the_output_is_sealed_once() -> None:
    deployment = running()
    deployment.seal_log(3, A, truncated=True)
    assert last(deployment) == Deployment.LogSealed(lines=3, sha256=A, truncated=True)
    before = count(deployment)
    deployment.seal_log(4, A, truncated=False)
    assert count(deployment) == before


def test_a_container_that_ends_by_itself() -> None:
    deployment = running()
    deployment.seal_log(0, "", truncated=False)
    deployment.exited(3, oom_killed=True, duration_seconds=2.5, received_bytes=7, sent_bytes=8)
    assert last(deployment) == Deployment.ContainerExited(
        exit_code=3, oom_killed=True, duration_seconds=2.5, received_bytes=7, sent_bytes=8
    )


def test_one_that_was_told_to_stop_was_stopped() -> None:
    deployment = running()
    assert deployment.request_stop("owner", "enough", Fault.REQUESTER)
    assert not deployment.request_stop("owner", "more than enough", Fault.REQUESTER)
    deployment.seal_log(0, "", truncated=False)
    deployment.exited(143, oom_killed=False, duration_seconds=2.5)
    found = last(deployment)
    assert isinstance(found, Deployment.Stopped)
    assert (found.reason, found.fault, found.exit_code, found.duration_seconds) == (
        "enough", Fault.REQUESTER, 143, 2.5,
    )  # fmt: skip


def test_nothing_stops_one_that_is_over() -> None:
    assert not ended().request_stop("owner", "enough", Fault.REQUESTER)


# --- inputs -------------------------------------------------------------------------------------------
def test_each_input_is_told_once_while_the_job_waits_for_it() -> None:
    deployment = accepted()
    assert deployment.input_started(1, "a")
    assert last(deployment) == Deployment.InputStarted(number=1, path="a")
    assert not deployment.input_started(1, "a")
    assert deployment.input_started(2, "b")
    assert deployment.input_done(1, "a", 5, A, cached=True)
    assert last(deployment) == Deployment.InputDone(number=1, path="a", size_bytes=5, sha256=A, cached=True)
    assert not deployment.input_done(1, "a", 5, A, cached=True)
    assert deployment.input_done(2, "b", 5, A, cached=False)
    assert deployment.input_failed(3, "c", "gone")
    assert last(deployment) == Deployment.InputFailed(number=3, path="c", reason="gone")


@pytest.mark.parametrize("deployment", [asked(), running(), ended()], ids=["asked", "running", "ended"])
def test_no_input_is_told_at_another_time(deployment: Deployment) -> None:
    before = count(deployment)
    assert not deployment.input_started(1, "a")
    assert not deployment.input_done(1, "a", 5, A, cached=False)
    assert not deployment.input_failed(1, "a", "gone")
    assert count(deployment) == before


# --- results ------------------------------------------------------------------------------------------
def test_results_are_saved_delivered_and_deleted_once() -> None:
    deployment = running()
    assert not deployment.deliver_results(A)
    assert not deployment.delete_results("expired")
    assert deployment.save_results("x.tar.gz", 10, A, START, files=2, skipped=1)
    assert last(deployment) == Deployment.ResultsSaved(
        name="x.tar.gz", size_bytes=10, sha256=A, saved_at=START, files=2, skipped=1
    )
    assert deployment.results_here
    assert not deployment.save_results("x.tar.gz", 10, A, START)
    assert not deployment.skip_results("too large", Fault.JOB)
    assert not deployment.deliver_results("b" * 64)
    assert deployment.deliver_results(A)
    assert last(deployment) == Deployment.ResultsDelivered()
    assert not deployment.deliver_results(A)
    assert deployment.delete_results("delivered")
    assert last(deployment) == Deployment.ResultsDeleted(reason="delivered")
    assert not deployment.results_here
    assert not deployment.delete_results("delivered")


def test_results_without_more_to_say() -> None:
    deployment = running()
    deployment.save_results("x.tar.gz", 10, A, START)
    found = last(deployment)
    assert isinstance(found, Deployment.ResultsSaved)
    assert (found.files, found.skipped) == (0, 0)


def test_results_that_could_not_be_saved() -> None:
    deployment = running()
    assert deployment.skip_results("too large", Fault.JOB)
    assert last(deployment) == Deployment.ResultsSkipped(reason="too large", fault=Fault.JOB)
    assert not deployment.skip_results("too large", Fault.JOB)
    assert not deployment.save_results("x.tar.gz", 10, A, START)


def test_no_results_behind_the_sealed_output_or_the_end() -> None:
    deployment = running()
    deployment.seal_log(0, "", truncated=False)
    for one in (deployment, ended()):
        assert not one.save_results("x.tar.gz", 10, A, START)
        assert not one.skip_results("too large", Fault.JOB)
