"""What a provider says of a job's inputs is held against what was asked for: it can't fill our log with it."""

from __future__ import annotations

import msgspec
import pytest

from dms.domain.deployment import Deployment
from dms.domain.event import Event
from dms.domain.inputs import Input
from dms.domain.job import Job
from dms.domain.resources import Resources
from dms.domain.reward import Fault
from dms.errors import PeerMisbehaved
from tests.fixtures.histories import START, Author, paid, request

AUTHOR = Author()
SHA256 = "ab" * 32
INPUTS = (Input(url="https://example.org/a"), Input(url="https://example.org/b.zip", unpack="zip"))
STARTED = Deployment.InputStarted(number=1, path="a")
DONE = Deployment.InputDone(number=1, path="a", size_bytes=5, sha256=SHA256)
FAILED = Deployment.InputFailed(number=2, path="b", reason="not there")


def accepted_job(attempts: int = 1) -> Job:
    made = request()
    job = Job("0198c0de-0000-7000-8000-000000000001")
    asked = msgspec.structs.replace(made, params=msgspec.structs.replace(made.params, inputs=INPUTS))
    job.request_service(asked, "12D3KooWProvider", "0.02728", START, (), 0, attempts=attempts)
    job.report_fund_status(paid())
    job.accept_funding("trust")
    begin(job)
    return job


def begin(job: Job) -> None:
    tell(job, Deployment.Requested(service_provider="p", request=request(), price="1"))
    tell(job, Deployment.Accepted(reserved=Resources()))


def tell(job: Job, event: Event) -> None:
    job.report_from_provider(AUTHOR.record(job.deployment_id, event, job.provider_version + 1), event)


def told(job: Job) -> list[Event]:
    kinds = (Job.InputStarted, Job.InputDone, Job.InputFailed)
    return [event for _, event in job.pending if isinstance(event, kinds)]


def test_a_job_tells_what_its_provider_tells() -> None:
    job = accepted_job()
    for event in (STARTED, DONE, FAILED):
        tell(job, event)
    assert told(job) == [
        Job.InputStarted(number=1, path="a"),
        Job.InputDone(number=1, path="a", size_bytes=5, sha256=SHA256),
        Job.InputFailed(number=2, path="b", reason="not there"),
    ]


@pytest.mark.parametrize(
    "event",
    [
        Deployment.InputStarted(number=0, path="a"),
        Deployment.InputStarted(number=3, path="a"),
        Deployment.InputStarted(number=2, path="a"),
        Deployment.InputDone(number=1, path="a", size_bytes=5, sha256="no digest"),
        Deployment.InputFailed(number=1, path="x" * 5000, reason="no"),
    ],
)
def test_what_was_not_asked_for_is_not_believed(event: Event) -> None:
    job = accepted_job()
    with pytest.raises(PeerMisbehaved):
        tell(job, event)
    assert told(job) == []


@pytest.mark.parametrize("event", [STARTED, DONE, FAILED])
def test_each_is_told_once_in_an_attempt(event: Event) -> None:
    job = accepted_job(attempts=2)
    tell(job, event)
    with pytest.raises(PeerMisbehaved, match="told before"):
        tell(job, event)
    job.fail_attempt("it is silent", Fault.PROVIDER)
    job.start_attempt("12D3KooWOther", "", None, 0)
    begin(job)
    tell(job, event)
    assert len(told(job)) == 2
