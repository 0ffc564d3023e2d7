"""What a job records of its checkpoints, its funding and its attempts, field by field."""

from __future__ import annotations

import pytest

from dms.domain.checkpoint import ResumeFrom
from dms.domain.deployment import Deployment, Fault
from dms.domain.event import Event
from dms.domain.job import FundStatus, Job, Refusal
from dms.domain.resources import Resources
from dms.domain.run_time import Instant
from dms.errors import Conflict, PeerMisbehaved
from tests.fixtures.histories import MINUTE, START, Author, new_job, paid, request, running_job, submitted_job

SHA = "ab" * 32
AT = Instant("boot", 1, 2)


def news(job: Job) -> list[Event]:
    """What it recorded since this was asked for last."""
    return [event for _, event in job.collect_pending()]


def archive(
    number: int = 1, size_bytes: int = 7 * 2**20, sha256: str = SHA, name: str = "a"
) -> Deployment.CheckpointSaved:
    return Deployment.CheckpointSaved(number=number, name=name, size_bytes=size_bytes, sha256=sha256, saved_at=START)


# --- checkpoints -----------------------------------------------------------------------------------------
def test_a_checkpoint_is_offered_and_received_as_it_was_told() -> None:
    job = running_job()
    news(job)
    job.offer_checkpoint(archive(name="n" * 300), fetch_until=99, max_bytes=7 * 2**20)
    offered = Job.CheckpointOffered(
        number=1, name="n" * 255, size_bytes=7 * 2**20, sha256=SHA, saved_at=START, fetch_until=99, ran_seconds=0.0
    )
    assert news(job) == [offered]
    assert job.checkpoint_is_here(offered, "kept.tar.gz")
    assert not job.checkpoint_is_here(offered, "kept.tar.gz")
    assert not job.lose_checkpoint(1, "late")
    assert news(job) == [Job.CheckpointReceived(number=1, name="kept.tar.gz", size_bytes=7 * 2**20, sha256=SHA)]


def test_one_that_is_too_large_is_lost_at_once_with_its_size() -> None:
    job = running_job()
    news(job)
    job.offer_checkpoint(archive(), fetch_until=99, max_bytes=7 * 2**20 - 1)
    reason = "it has 7 MiB, more than job.checkpoint_max_mb allows"
    assert news(job)[1:] == [Job.CheckpointLost(number=1, reason=reason)]


@pytest.mark.parametrize(
    ("saved", "fine"),
    [
        (archive(2), True),
        (archive(3), True),
        (archive(1), False),
        (archive(0), False),
        (archive(2, size_bytes=1), True),
        (archive(2, size_bytes=0), False),
        (archive(2, sha256="no digest"), False),
    ],
)
def test_a_checkpoint_has_a_number_that_goes_on_a_size_and_a_digest(
    saved: Deployment.CheckpointSaved, fine: bool
) -> None:
    job = running_job()
    job.offer_checkpoint(archive(1), fetch_until=99, max_bytes=2**30)
    if fine:
        job.check_checkpoint(saved)
        return
    told = f"^job {job.key}: checkpoint {saved.number} has no valid number, size or digest$"
    with pytest.raises(PeerMisbehaved, match=told):
        job.check_checkpoint(saved)


# --- asking and paying -----------------------------------------------------------------------------------
def test_a_request_is_recorded_whole() -> None:
    asked, resume = request(time=3), ResumeFrom(name="a", size_bytes=1, sha256=SHA)
    refused = (Refusal(peer_id="r", reason="full"),)
    job = Job("job")
    job.request_service(asked, "p", "8", 99, refused, 2, payee="0xP", resume=resume, attempts=3, client="team")
    plain = Job("job")
    plain.request_service(asked, "p", "8", 99, (), 0)
    assert news(job) == [
        Job.ServiceRequested(
            request=asked, provider="p", price="8", expires_at=99, refused=refused, refused_count=2, payee="0xP",
            resume=resume, attempts=3, client="team",
        )
    ]  # fmt: skip
    assert news(plain) == [Job.ServiceRequested(request=asked, provider="p", price="8", expires_at=99)]


def test_what_the_check_saw_of_the_payment_is_recorded() -> None:
    job, plain = new_job(), new_job()
    for one in (job, plain):
        assert one.report_fund_status(paid("0xCD"))
        news(one)
    job.accept_funding("ledger", "0xPayer", "123", 7, AT)
    assert news(job) == [
        Job.FundingAccepted(tx_hash="0xCD", check="ledger", payer="0xPayer", units="123", block=7),
        Job.Submitted(provider=job.provider, at=AT),
    ]
    plain.accept_funding("trust")
    assert news(plain) == [Job.FundingAccepted(tx_hash="0xCD", check="trust"), Job.Submitted(provider=plain.provider)]


def test_a_report_is_taken_once_and_kept_in_our_words() -> None:
    job = new_job()
    pending = FundStatus(transaction_type="fund", transaction_status="pending", tx_hash="")
    news(job)
    assert job.report_fund_status(pending)
    assert not job.report_fund_status(pending)
    assert news(job) == [Job.FundStatusReported(transaction_type="fund", transaction_status="pending", tx_hash="")]


def test_a_payment_that_comes_too_late_is_told_to_be_unused() -> None:
    running, expired = submitted_job(), new_job()
    expired.expire("late")
    with pytest.raises(Conflict, match=f"^job {running.key} does not await funding: it is submitted$"):
        running.report_fund_status(paid("0xOther"))
    unused = "; the payment is not used and can pay for a new request"
    with pytest.raises(Conflict, match=f"^job {expired.key} does not await funding: it is expired{unused}$"):
        expired.report_fund_status(paid())


def test_a_stop_is_recorded_once_with_its_time() -> None:
    job = running_job()
    news(job)
    assert job.request_termination("the client", AT)
    assert not job.request_termination("again", AT)
    assert news(job) == [Job.TerminationRequested(reason="the client", at=AT)]
    job.fail("over", Fault.JOB)
    with pytest.raises(Conflict, match=f"^job {job.key} is over: it failed$"):
        job.request_termination("late")


# --- attempts --------------------------------------------------------------------------------------------
def test_the_next_attempt_is_recorded_whole() -> None:
    job = submitted_job(attempts=2, minutes=3)
    job.fail_attempt("gone", Fault.PROVIDER)
    news(job)
    resume, refused = ResumeFrom(name="a", size_bytes=1, sha256=SHA), (Refusal(peer_id="r", reason="full"),)
    job.start_attempt("other", "0xOther", resume, 4, refused, 2, AT)
    assert news(job) == [
        Job.AttemptStarted(
            attempt=2, provider="other", price="0.02728", minutes=3, payee="0xOther", resume=resume, lines_before=4,
            refused=refused, refused_count=2, at=AT,
        )
    ]  # fmt: skip


def test_what_was_to_be_fetched_of_the_last_attempt_is_lost() -> None:
    job = submitted_job(attempts=2)
    job.trigger(Job.DeploymentResponded(success=True, content=""))
    job.offer_checkpoint(archive(), fetch_until=99, max_bytes=2**30)
    saved = Deployment.ResultsSaved(name="r", size_bytes=1, sha256=SHA, saved_at=START)
    job.offer_results(saved, fetch_until=99, max_bytes=2**30)
    job.fail_attempt("gone", Fault.PROVIDER)
    news(job)
    job.start_attempt("other", "", None, 0)
    assert news(job)[:2] == [
        Job.CheckpointLost(number=1, reason="the job goes on without it, at another provider"),
        Job.ResultsLost(reason="the job goes on at another provider"),
    ]


@pytest.mark.parametrize("ran", [False, True])
@pytest.mark.parametrize("by_attempt", [False, True])
def test_the_price_is_owed_back_for_what_never_ran(ran: bool, by_attempt: bool) -> None:
    job = running_job() if ran else submitted_job()
    news(job)
    (job.fail_attempt if by_attempt else job.fail)("gone", Fault.PROVIDER)
    assert news(job) == [Job.Failed(reason="gone", fault=Fault.PROVIDER, refund=not ran)]


def test_nothing_is_owed_back_of_what_was_never_paid() -> None:
    job = new_job()
    news(job)
    job.fail("stopped", Fault.REQUESTER)
    assert news(job) == [Job.Failed(reason="stopped", fault=Fault.REQUESTER, refund=False)]


def test_telling_is_given_up_for_the_attempt_that_it_is_about() -> None:
    job = submitted_job(attempts=2)
    job.fail_attempt("gone", Fault.PROVIDER)
    job.start_attempt("other", "", None, 0)
    news(job)
    assert not job.telling_given_up("it has it still", 2)
    assert job.telling_given_up("it never answered", 1)
    assert not job.telling_given_up("it never answered", 1)
    assert news(job) == [Job.TellingGivenUp(reason="it never answered", attempt=1)]


def test_a_record_that_makes_no_sense_is_kept_with_its_place() -> None:
    job = submitted_job()
    news(job)
    assert job.provider_misbehaved(3, "t" * 200, "a gap")
    assert news(job) == [Job.ProviderMisbehaved(version=3, topic="t" * 128, reason="a gap")]


def test_a_job_of_which_no_attempt_failed_has_no_such_end() -> None:
    job = submitted_job()
    with pytest.raises(Conflict, match=f"^no attempt of job {job.key} has failed$"):
        job.not_repeated("nobody is left")


# --- what follows from a provider's record ---------------------------------------------------------------
AUTHOR = Author()
BEGUN = (
    Deployment.Requested(service_provider="s", request=request(), price="1"),
    Deployment.Accepted(reserved=Resources()),
    Deployment.ContainerCreated(container_id="c", executor="docker"),
)


def told(job: Job, *events: Event) -> None:
    for event in events:
        job.report_from_provider(AUTHOR.record(job.key, event, job.provider_version + 1), event, AT)


@pytest.mark.parametrize(("stops_at", "started_at"), [(START, START - 3 * MINUTE), (3 * MINUTE, 0), (1, 0)])
def test_a_start_is_recorded_with_both_clocks(stops_at: int, started_at: int) -> None:
    job = submitted_job(minutes=3)
    told(job, *BEGUN, Deployment.ContainerStarted(stops_at=stops_at))
    assert news(job)[-1] == Job.DeploymentResponded(success=True, content="", started_at=started_at, at=AT)


@pytest.mark.parametrize("ran", [False, True])
def test_a_provider_s_failure_owes_the_price_back_unless_it_ran(ran: bool) -> None:
    job = submitted_job()
    told(job, *BEGUN, *([Deployment.ContainerStarted(stops_at=START)] if ran else []))
    told(job, Deployment.Failed(reason="gone", fault=Fault.PROVIDER))
    failed = news(job)[-1]
    assert isinstance(failed, Job.Failed)
    assert failed.refund is not ran


def test_a_record_that_is_known_or_comes_too_late_changes_nothing() -> None:
    job = submitted_job()
    told(job, *BEGUN[:2])
    news(job)
    for version in (1, 2):
        job.report_from_provider(AUTHOR.record(job.key, BEGUN[0], version), BEGUN[0])
    assert news(job) == []
    job.fail("over", Fault.REQUESTER)
    news(job)
    told(job, BEGUN[2])
    assert news(job) == []


def test_a_gap_is_told_with_the_version_that_was_expected() -> None:
    job = submitted_job()
    told(job, BEGUN[0])
    expected = f"^job {job.key}: expected version 2 of its deployment, got version 3 of deployment-{job.key}$"
    with pytest.raises(PeerMisbehaved, match=expected):
        job.report_from_provider(AUTHOR.record(job.key, BEGUN[1], 3), BEGUN[1])
    with pytest.raises(PeerMisbehaved, match=f"^job {job.key}: a checkpoint of a container that was never started$"):
        told(job, archive())
