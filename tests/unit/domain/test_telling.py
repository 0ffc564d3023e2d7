"""A job that ended without its provider's word: who is still to be told, over any restart."""

from __future__ import annotations

import pytest

from dms.domain.deployment import Fault
from dms.domain.event import new_id
from dms.domain.job import MISBEHAVIOURS_KEPT, FundStatus, Job
from tests.unit.domain.test_decisions import PAID, quoted


def submitted() -> Job:
    job = quoted()
    job.report_fund_status(PAID)
    job.accept_funding("trust")
    return job


def again(job: Job) -> Job:
    """As a restart finds it."""
    found = Job(job.key)
    for _, event in job.pending:
        found.apply(event)
    return found


def test_a_provider_is_to_be_told_of_an_end_that_it_did_not_report() -> None:
    job = submitted()
    assert not job.attempts_to_tell
    job.fail("provider did not answer", Fault.PROVIDER)
    assert again(job).attempts_to_tell


@pytest.mark.parametrize("settle", [Job.provider_told, lambda job: job.telling_given_up("it never came back")])
def test_it_is_told_or_given_up_once(settle: object) -> None:
    job = submitted()
    assert callable(settle)
    assert not settle(job)
    job.fail("provider did not answer", Fault.PROVIDER)
    assert settle(job)
    assert not settle(job)
    assert not again(job).attempts_to_tell


def test_nobody_is_to_be_told_of_a_job_that_was_never_submitted() -> None:
    job = quoted()
    job.report_fund_status(FundStatus(transaction_type="fund", transaction_status="refused", tx_hash=new_id()))
    assert not job.open
    assert not job.attempts_to_tell


def test_the_first_few_misbehaviours_of_a_provider_are_kept() -> None:
    job = submitted()
    before = job.state
    kept = [job.provider_misbehaved(version, "deployment.accepted", "twice") for version in range(20)]
    assert kept == [True] * MISBEHAVIOURS_KEPT + [False] * (20 - MISBEHAVIOURS_KEPT)
    assert job.state is before
    job.fail("it broke the protocol", Fault.PROVIDER)
    assert not job.provider_misbehaved(21, "deployment.accepted", "after the end")
