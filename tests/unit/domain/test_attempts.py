"""A job that is tried again: after which ends, where, for how long, and what that costs."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.domain.checkpoint import ResumeFrom
from dms.domain.deployment import Deployment, Fault
from dms.domain.event import Event, new_id
from dms.domain.job import Job, JobState
from dms.domain.payment import Payment
from dms.domain.request import ServiceRequest
from dms.domain.resources import Resources
from dms.domain.retry import MOST_ATTEMPTS, Retry, attempt_of, deployment_id, job_of
from dms.domain.run_time import Instant
from dms.errors import Conflict, PeerMisbehaved
from tests.fixtures.histories import MINUTE, START, Author, new_job, paid, request, submitted_job

AUTHOR = Author()
OTHER = "12D3KooWOther"
SHA = "ab" * 32
RUN = (
    Deployment.Requested(service_provider="p", request=request(), price="1"),
    Deployment.Accepted(reserved=Resources()),
    Deployment.ContainerCreated(container_id="c", executor="docker"),
)


def report(job: Job, *events: Event) -> None:
    for event in events:
        job.report_from_provider(AUTHOR.record(job.deployment_id, event, job.provider_version + 1), event)


def started(job: Job, at: int = START) -> Job:
    """at: by the provider's clock."""
    report(job, *RUN, Deployment.ContainerStarted(stops_at=at + job.minutes * MINUTE))
    return job


def broken(fault: Fault, seconds: float = 5.0) -> Deployment.Failed:
    return Deployment.Failed(reason="its machine went down", fault=fault, exit_code=137, duration_seconds=seconds)


def again(job: Job) -> Job:
    """As a restart finds it."""
    found = Job(job.key)
    for _, event in job.pending:
        found.apply(event)
    return found


def topics(job: Job) -> list[str]:
    return [event.TOPIC for _, event in job.pending]


# --- which deployment is which attempt -------------------------------------------------------------------
@given(st.integers(1, MOST_ATTEMPTS))
def test_a_deployment_says_which_attempt_of_which_job_it_is(number: int) -> None:
    job_id = new_id()
    deployment = deployment_id(job_id, number)
    assert (job_of(deployment), attempt_of(deployment)) == (job_id, number)
    assert (deployment == job_id) == (number == 1)
    assert str(UUID(deployment)) == deployment


@given(st.uuids(version=4) | st.uuids(version=5) | st.uuids(version=1))
def test_an_id_of_another_make_is_its_own_only_attempt(other: UUID) -> None:
    assert (job_of(str(other)), attempt_of(str(other))) == (str(other), 1)


@pytest.mark.parametrize("text", ["", "j", "not an id at all"])
def test_what_is_no_id_is_its_own_job(text: str) -> None:
    assert (job_of(text), attempt_of(text)) == (text, 1)


# --- after which ends -------------------------------------------------------------------------------------
@pytest.mark.parametrize("fault", [Fault.PROVIDER, Fault.NETWORK, Fault.NONE])
def test_an_end_that_is_not_its_own_fault_is_not_its_end(fault: Fault) -> None:
    job = started(submitted_job(attempts=2))
    report(job, broken(fault))
    assert (job.state, job.open, job.reward) == (JobState.RETRYING, True, None)
    assert topics(job)[-1] == "job.attempt_failed"


@pytest.mark.parametrize(
    "end",
    [
        broken(Fault.REQUESTER),
        broken(Fault.JOB),
        Deployment.ContainerExited(exit_code=3, duration_seconds=1.0),
        Deployment.ContainerExited(exit_code=137, oom_killed=True, duration_seconds=1.0),
    ],
)
def test_its_own_fault_ends_it(end: Event) -> None:
    job = started(submitted_job(attempts=2))
    report(job, end)
    assert job.state is JobState.FAILED


def test_a_run_that_earned_a_part_of_the_price_is_not_repeated() -> None:
    """Else one payment would pay two providers."""
    job = started(submitted_job(attempts=2))
    report(job, broken(Fault.NONE, seconds=31.0))
    assert job.state is JobState.FAILED
    assert job.reward is not None
    assert job.reward.to_provider != "0"


def test_a_job_without_the_policy_is_tried_once() -> None:
    job = started(submitted_job())
    report(job, broken(Fault.PROVIDER))
    assert job.state is JobState.FAILED


def test_a_refusal_that_is_not_the_last_word_is_told_to_nobody() -> None:
    job = submitted_job(attempts=2)
    report(job, RUN[0], Deployment.Rejected(reason="no room", fault=Fault.PROVIDER))
    assert job.state is JobState.RETRYING
    assert "job.deployment_responded" not in topics(job)


def test_the_last_attempt_ends_the_job_as_it_ended() -> None:
    job = started(submitted_job(attempts=2))
    report(job, broken(Fault.PROVIDER))
    job.start_attempt(OTHER, "", None, 0)
    report(job, RUN[0], Deployment.Rejected(reason="no room", fault=Fault.PROVIDER))
    assert (job.state, job.failure, job.provider) == (JobState.FAILED, "no room", OTHER)
    assert topics(job)[-2:] == ["job.deployment_responded", "job.failed"]


def test_a_job_that_is_told_to_stop_is_not_tried_again() -> None:
    job = started(submitted_job(attempts=3))
    job.request_termination("enough")
    report(job, Deployment.StopRequested(by="service provider", reason="enough"))
    report(job, broken(Fault.PROVIDER))
    assert job.state is JobState.FAILED


def test_a_stop_between_two_attempts_ends_it_for_good_and_costs_nothing() -> None:
    job = started(submitted_job(attempts=3))
    report(job, broken(Fault.PROVIDER))
    assert job.request_termination("enough")
    assert (job.state, job.failure) == (JobState.FAILED, "enough")
    assert job.reward is not None
    assert job.reward.to_provider == "0"
    with pytest.raises(Conflict):
        job.request_termination("enough")


def test_nobody_who_can_go_on_is_the_end_of_the_last_attempt() -> None:
    job = started(submitted_job(attempts=3))
    report(job, broken(Fault.NETWORK))
    job.not_repeated("no provider could go on")
    failed = job.pending[-1][1]
    assert isinstance(failed, Job.Failed)
    assert (failed.reason, failed.fault, failed.exit_code, failed.duration_seconds) == (
        "its machine went down; no provider could go on", Fault.NETWORK, 137, 5.0,
    )  # fmt: skip


# --- the next attempt ---------------------------------------------------------------------------------------
def test_the_next_attempt_is_a_deployment_of_its_own_with_a_life_of_its_own() -> None:
    job = started(submitted_job(attempts=2))
    report(job, Deployment.LogSealed(lines=4, sha256=SHA), broken(Fault.PROVIDER))
    job.start_attempt(OTHER, "0xOther", None, 4)
    assert (job.state, job.provider, job.payee, job.provider_version) == (JobState.SUBMITTED, OTHER, "0xOther", 0)
    assert job.deployment_id == deployment_id(job.key, 2)
    stray = AUTHOR.record(job.key, RUN[0], 1)
    with pytest.raises(PeerMisbehaved):
        job.report_from_provider(stray, RUN[0])
    started(job)
    report(job, Deployment.LogSealed(lines=2, sha256=SHA), Deployment.ContainerExited(exit_code=0))
    assert job.state is JobState.COMPLETED
    seals = [event.attempt for _, event in job.pending if isinstance(event, Job.LogSealed)]
    responses = [event.repeated for _, event in job.pending if isinstance(event, Job.DeploymentResponded)]
    assert (seals, responses) == ([1, 2], [False, True])


def test_a_restart_finds_each_attempt_where_it_was() -> None:
    job = started(submitted_job(attempts=3))
    job.fail_attempt("provider lost", Fault.PROVIDER)
    job.start_attempt(OTHER, "", None, 7)
    started(job)
    found = again(job)
    assert [(a.provider, a.lines_before, a.failure, a.over) for a in found.attempts] == [
        ("12D3KooWProvider", 0, "provider lost", True), (OTHER, 7, "", False),
    ]  # fmt: skip
    report(found, Deployment.ContainerExited(exit_code=0))
    assert found.state is JobState.COMPLETED


def test_who_was_given_up_is_to_be_told_also_when_another_has_finished_it() -> None:
    job = started(submitted_job(attempts=3))
    job.fail_attempt("provider lost", Fault.PROVIDER)
    assert [attempt.number for attempt in job.attempts_to_tell] == [1]
    job.start_attempt(OTHER, "", None, 0)
    started(job)
    report(job, Deployment.ContainerExited(exit_code=0))
    assert [attempt.number for attempt in again(job).attempts_to_tell] == [1]
    assert job.provider_told(1)
    assert not job.provider_told(1)
    assert again(job).attempts_to_tell == []


def test_who_has_said_itself_that_it_ended_is_told_nothing() -> None:
    job = started(submitted_job(attempts=2))
    report(job, broken(Fault.PROVIDER))
    assert job.attempts_to_tell == []


# --- its time -------------------------------------------------------------------------------------------------
def saved(number: int, at: int) -> Deployment.CheckpointSaved:
    return Deployment.CheckpointSaved(number=number, name="x.tar.gz", size_bytes=9, sha256=SHA, saved_at=at)


def with_checkpoint(job: Job, number: int, at: int) -> ResumeFrom:
    event = saved(number, at)
    report(job, event)
    job.offer_checkpoint(event, START * 2, 1_000)
    offered = job.checkpoint_offered
    assert offered is not None
    assert job.checkpoint_is_here(offered, "x.tar.gz")
    return ResumeFrom(name="x.tar.gz", size_bytes=9, sha256=SHA)


def test_an_attempt_that_goes_on_has_the_time_that_the_checkpoint_leaves() -> None:
    job = started(submitted_job(attempts=4, minutes=60))
    resume = with_checkpoint(job, 1, START + 38 * MINUTE + 1)
    report(job, broken(Fault.PROVIDER, seconds=55 * 60))
    job.start_attempt(OTHER, "", resume, 0)
    assert job.minutes == 22
    started(job, START + 100 * MINUTE)
    again_saved = with_checkpoint(job, 1, START + 110 * MINUTE)
    report(job, broken(Fault.PROVIDER))
    job.start_attempt(OTHER, "", again_saved, 0)
    assert (job.minutes, again(job).minutes) == (12, 12)
    job.fail_attempt("it does not answer", Fault.PROVIDER)
    job.start_attempt(OTHER, "", resume, 0)
    assert job.minutes == 12


def test_one_that_begins_anew_has_all_of_it() -> None:
    job = started(submitted_job(attempts=2, minutes=60))
    report(job, broken(Fault.PROVIDER, seconds=55 * 60))
    job.start_attempt(OTHER, "", None, 0)
    assert job.minutes == 60


@pytest.mark.parametrize(("at", "left"), [(START - 5 * MINUTE, 60), (START * 2, 1), (START + 59 * MINUTE + 1, 1)])
def test_a_provider_can_not_take_more_than_the_time_nor_give_more(at: int, left: int) -> None:
    job = started(submitted_job(attempts=2, minutes=60))
    resume = with_checkpoint(job, 1, at)
    report(job, broken(Fault.PROVIDER))
    job.start_attempt(OTHER, "", resume, 0)
    assert job.minutes == left


def test_a_provider_can_not_take_more_of_it_than_has_passed_here() -> None:
    """Of each attempt: counted from when its provider got it."""
    job = new_job(attempts=3, minutes=60)
    job.report_fund_status(paid())
    job.accept_funding("trust", at=Instant("boot", 0, START))
    started(job)
    for number, (passed, left) in enumerate([(2, 58), (5, 53)]):
        event, now = saved(1, START + 50 * MINUTE), Instant("boot", (number * 10 + passed) * MINUTE, 0)
        report(job, event)
        job.offer_checkpoint(event, START * 2, 1_000, now)
        assert job.checkpoint_offered is not None
        assert job.checkpoint_offered.ran_seconds == passed * 60
        assert job.checkpoint_is_here(job.checkpoint_offered, "x.tar.gz")
        report(job, broken(Fault.PROVIDER))
        resume = ResumeFrom(name="x.tar.gz", size_bytes=9, sha256=SHA)
        job.start_attempt(OTHER, "", resume, 0, at=Instant("boot", (number + 1) * 10 * MINUTE, 0))
        assert (job.minutes, again(job).minutes) == (left, left)
        started(job)


def test_checkpoints_are_counted_over_all_attempts() -> None:
    job = started(submitted_job(attempts=2))
    with_checkpoint(job, 3, START + 1)
    report(job, saved(4, START + 2))
    job.offer_checkpoint(saved(4, START + 2), START * 2, 1_000)
    on_its_way = job.checkpoint_offered
    assert on_its_way is not None
    report(job, broken(Fault.PROVIDER))
    job.start_attempt(OTHER, "", None, 0)
    assert job.checkpoint_wanted is None
    assert not job.checkpoint_is_here(on_its_way, "late")
    started(job)
    with_checkpoint(job, 1, START + 3)
    assert job.checkpoint_received is not None
    assert job.checkpoint_received.number == 5


def test_results_of_an_attempt_before_are_neither_received_nor_lost_as_those_of_the_next() -> None:
    job = started(submitted_job(attempts=2))
    given = Deployment.ResultsSaved(name="x.tar.gz", size_bytes=9, sha256=SHA, saved_at=START)
    job.offer_results(given, START * 2, 1_000)
    on_their_way = job.results_wanted
    assert on_their_way is not None
    report(job, broken(Fault.PROVIDER))
    job.start_attempt(OTHER, "", None, 0)
    started(job)
    job.offer_results(msgspec.structs.replace(given, saved_at=START + 1), START * 2, 1_000)
    assert not job.results_are_here(on_their_way, "late", START)
    assert not job.lose_results(on_their_way, "it has them no more")
    assert job.results_wanted is not None


# --- what travels, and what it costs ------------------------------------------------------------------------
def test_the_policy_stays_with_who_asks() -> None:
    asked = msgspec.structs.replace(request(time=60), retry=Retry(max_attempts=3))
    assert asked.max_attempts == 3
    sent = msgspec.json.decode(msgspec.json.encode(asked.for_attempt(22)), type=ServiceRequest)
    assert (sent.retry, sent.constraints.time, sent.max_attempts) == (None, 22, 1)


@pytest.mark.parametrize("attempts", [0, MOST_ATTEMPTS + 1, -1, 1.5, "2"])
def test_other_numbers_of_attempts_are_refused(attempts: object) -> None:
    whole = msgspec.to_builtins(request()) | {"retry": {"max_attempts": attempts}}
    with pytest.raises(msgspec.ValidationError, match=r"retry\.max_attempts"):
        msgspec.convert(whole, ServiceRequest)


def test_the_price_of_all_attempts_is_the_one_that_was_paid() -> None:
    job = started(submitted_job(attempts=2, minutes=60))
    report(job, broken(Fault.PROVIDER))
    job.start_attempt(OTHER, "", None, 0)
    started(job)
    report(job, Deployment.ContainerExited(exit_code=0, duration_seconds=60.0))
    assert job.reward is not None
    assert (job.reward.price, job.reward.to_provider) == (job.price, job.price)


def test_a_payment_goes_to_a_later_attempt_of_its_job_and_to_no_other() -> None:
    job_id, payment = new_id(), Payment("ab")
    payment.use(deployment_id(job_id, 2))
    payment.use(deployment_id(job_id, 3))
    for other in (job_id, deployment_id(job_id, 2), new_id(), deployment_id(new_id(), 4)):
        with pytest.raises(Conflict):
            payment.use(other)
    assert payment.job_id == deployment_id(job_id, 3)


def test_a_payment_that_its_job_leaves_is_released_to_the_next() -> None:
    job_id, other = new_id(), new_id()
    payment = Payment("hash")
    payment.use(job_id)
    with pytest.raises(Conflict, match="it pays for another job"):
        payment.use(other)
    assert payment.refusal(other) == "this transaction was used already: it pays for another job"
    payment.use(other, free=True)
    payment.use(deployment_id(other, 2))
    assert [event for _, event in payment.pending] == [
        Payment.Used(job_id=job_id),
        Payment.Released(job_id=job_id),
        Payment.Used(job_id=other),
        Payment.Released(job_id=other),  # what the attempt would be owed back goes with it
        Payment.Used(job_id=deployment_id(other, 2)),
    ]


def test_a_letter_that_is_no_digit_names_no_attempt() -> None:
    assert attempt_of(f"{new_id()[:14]}g74b-bcce-b302099a8057") == 1
