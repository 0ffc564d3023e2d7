"""Whatever a provider says, in whatever order: a job follows only what can be the life of a deployment."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dms.domain.attempt import Attempt
from dms.domain.deployment import Deployment, Fault
from dms.domain.event import Event, Unknown, new_id
from dms.domain.job import MISBEHAVIOURS_KEPT, Job, JobState
from dms.domain.resources import Resources
from dms.domain.reward import reward
from dms.errors import PeerMisbehaved
from tests.fixtures.histories import Author, new_job, paid, request, running_job, submitted_job

AUTHOR = Author()
SECONDS = st.sampled_from((0.0, 31.0, 59.0, 1e9))
RECORDS: st.SearchStrategy[Event] = st.one_of(
    st.just(Deployment.Requested(service_provider="p", request=request(), price="1")),
    st.just(Deployment.FundingPending(reason="not yet", until=1)),
    st.just(Deployment.FundingAccepted(tx_hash="ab", check="trust")),
    st.just(Deployment.Accepted(reserved=Resources())),
    st.builds(Deployment.Rejected, reason=st.just("no"), fault=st.sampled_from(Fault)),
    st.just(Deployment.ImagePulled(digest="sha256:0")),
    st.just(Deployment.WorkspaceRestored(name="x", sha256="a" * 64)),
    st.just(Deployment.ContainerCreated(container_id="c", executor="docker")),
    st.just(Deployment.ContainerStarted(stops_at=1)),
    st.builds(
        Deployment.CheckpointSaved, number=st.integers(0, 3), name=st.just("x"), size_bytes=st.integers(0, 9),
        sha256=st.just("a" * 64), saved_at=st.just(1),
    ),
    st.just(Deployment.CheckpointSkipped(reason="full")),
    st.just(Deployment.CheckpointDelivered(number=1)),
    st.just(Deployment.CheckpointDeleted(number=1, reason="expired")),
    st.just(Deployment.StopRequested(by="operator", reason="enough")),
    st.just(Deployment.LogSealed(lines=1, sha256="a" * 64)),
    st.builds(
        Deployment.ContainerExited, exit_code=st.sampled_from((0, 3)), oom_killed=st.booleans(),
        duration_seconds=SECONDS,
    ),
    st.builds(
        Deployment.Failed, reason=st.just("broken"), fault=st.sampled_from(Fault),
        exit_code=st.none() | st.just(137), duration_seconds=SECONDS,
    ),
    st.builds(
        Deployment.Stopped, by=st.just("operator"), reason=st.just("enough"), fault=st.sampled_from(Fault),
        duration_seconds=SECONDS,
    ),
    st.just(Deployment.RewardClaimed(reward_type="withdraw", price="1", to_provider="1", to_requester="0")),
    st.just(Deployment.RewardSettled(transaction_type="done")),
    st.just(Job.Completed(duration_seconds=60.0)),
    st.just(Unknown(topic="deployment.invented_later", version=1, body={})),
    st.just(Unknown(topic="deployment.container_exited", version=99, body={})),
)  # fmt: skip
LIKELY = (
    Deployment.Requested(service_provider="p", request=request(), price="1"),
    Deployment.Accepted(reserved=Resources()),
    Deployment.ContainerCreated(container_id="c", executor="docker"),
    Deployment.ContainerStarted(stops_at=1),
)


class Peer(RuleBasedStateMachine):
    """A provider that says anything to a job in any state, which its owner may stop or give up on at any time."""

    @initialize(make=st.sampled_from((new_job, submitted_job, lambda: submitted_job(attempts=3))))
    def begin(self, make: Callable[[], Job]) -> None:
        self.job = make()
        self.told: list[Event] = []

    @rule(event=RECORDS)
    def say(self, event: Event) -> None:
        self._say(event)

    @rule(steps=st.integers(1, len(LIKELY)))
    def say_what_is_likely(self, steps: int) -> None:
        for event in LIKELY[:steps]:
            self._say(event)

    def _say(self, event: Event) -> None:
        job = self.job
        before = (job.version, job.state, job.provider_version)
        topic = event.topic if isinstance(event, Unknown) else event.TOPIC
        record = AUTHOR.record(job.deployment_id, event, job.provider_version + 1, topic=topic)
        try:
            job.report_from_provider(record, event)
        except PeerMisbehaved as error:
            assert (job.version, job.state, job.provider_version) == before
            recorded = job.provider_misbehaved(record.version, record.topic, str(error))
            assert job.state is before[1]
            assert job.version == before[0] + recorded

    @rule()
    def pay(self) -> None:
        if self.job.state is JobState.AWAITING:
            self.job.report_fund_status(paid())
            self.job.accept_funding("trust")

    @rule()
    def stop(self) -> None:
        if self.job.open:
            self.job.request_termination("no longer wanted")

    @rule()
    def give_up(self) -> None:
        if self.job.has_provider:
            self.job.fail_attempt("it is silent", Fault.PROVIDER)

    @rule()
    def go_on(self) -> None:
        if self.job.state is JobState.RETRYING:
            self.job.start_attempt("12D3KooWOther", "", None, 0)

    def _failed(self) -> list[Attempt]:
        """The attempts that others followed."""
        return self.job.attempts[:-1]

    @invariant()
    def its_history_makes_sense(self) -> None:
        if not hasattr(self, "job"):
            return
        kinds = [type(event) for _, event in self.job.pending]
        ends = [kind for kind in kinds if kind in (Job.Completed, Job.Failed, Job.Expired)]
        assert len(ends) == (not self.job.open)
        started = Deployment.ContainerStarted.TOPIC in [
            event.record.topic for _, event in self.job.pending if isinstance(event, Job.ProviderReported)
        ]
        if Job.Completed in kinds:
            assert Job.Submitted in kinds
            assert started
        found = self.job.reward
        if found is not None and not started:
            assert Decimal(found.to_provider) == 0
        assert kinds.count(Job.LogSealed) <= len(self.job.attempts) <= self.job.max_attempts
        assert kinds.count(Job.AttemptFailed) - kinds.count(Job.AttemptStarted) in (0, 1)
        assert all(reward("1", 1, attempt.outcome).to_provider == "0" for attempt in self._failed() if attempt.outcome)
        assert kinds.count(Job.ProviderMisbehaved) <= MISBEHAVIOURS_KEPT


Peer.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestAnyRecords = Peer.TestCase


def report(job: Job, *events: Event) -> None:
    for event in events:
        job.report_from_provider(AUTHOR.record(job.key, event, job.provider_version + 1), event)


def test_an_exit_completes_no_job_that_was_never_paid_for() -> None:
    job = new_job()
    with pytest.raises(PeerMisbehaved):
        report(job, Deployment.ContainerExited(exit_code=0))
    assert job.state is JobState.AWAITING


def test_an_exit_without_a_start_is_misbehaviour() -> None:
    job = submitted_job()
    report(job, *LIKELY[:3])
    with pytest.raises(PeerMisbehaved, match=r"deployment\.container_exited can't follow while it is created"):
        report(job, Deployment.ContainerExited(exit_code=0, duration_seconds=60))
    assert job.state is JobState.SUBMITTED


def test_a_running_job_takes_no_second_seal_and_no_doubt_about_its_payment() -> None:
    job = submitted_job()
    report(job, *LIKELY, Deployment.LogSealed(lines=1, sha256="a" * 64))
    for event in (Deployment.LogSealed(lines=2, sha256="b" * 64), Deployment.FundingPending(reason="?", until=1)):
        with pytest.raises(PeerMisbehaved):
            report(job, event)
    report(job, Deployment.ContainerExited(exit_code=0, duration_seconds=5.0))
    assert job.state is JobState.COMPLETED


def test_time_without_a_run_earns_nothing() -> None:
    job = submitted_job()
    stop = Deployment.StopRequested(by="operator", reason="enough")
    report(
        job,
        *LIKELY[:2],
        stop,
        Deployment.Stopped(by="operator", reason="enough", fault=Fault.JOB, duration_seconds=1e6),
    )
    assert job.reward is not None
    assert job.reward.to_provider == "0"


def test_a_start_that_only_a_newer_version_can_read_is_a_start() -> None:
    job = submitted_job()
    report(job, *LIKELY[:3])
    newer = Unknown(topic=Deployment.ContainerStarted.TOPIC, version=99, body={})
    job.report_from_provider(AUTHOR.record(job.key, newer, 4, topic=newer.topic), newer)
    report(job, Deployment.ContainerExited(exit_code=0, duration_seconds=5.0))
    assert job.state is JobState.COMPLETED


@given(SECONDS, st.sampled_from(Fault))
def test_a_run_that_was_ended_from_outside_is_paid_by_whose_fault_it_was(seconds: float, fault: Fault) -> None:
    job = submitted_job()
    report(job, *LIKELY, Deployment.Failed(reason="killed", fault=fault, exit_code=137, duration_seconds=seconds))
    assert job.outcome is not None
    assert (job.outcome.duration_seconds, job.outcome.provider_fault) == (seconds, fault.of_provider)
    assert job.reward == reward(job.price, job.minutes, job.outcome)


def test_after_a_restart_the_provider_is_where_its_records_left_it() -> None:
    job = submitted_job(new_id())
    report(job, *LIKELY[:3])
    again = Job(job.key)
    for _, event in job.pending:
        again.apply(event)
    with pytest.raises(PeerMisbehaved):
        report(again, Deployment.ContainerCreated(container_id="c", executor="docker"))
    report(again, LIKELY[3])
    assert again.state is running_job().state
