"""What deployments and jobs decide about checkpoints."""

from __future__ import annotations

from dms.domain.checkpoint import ResumeFrom
from dms.domain.deployment import Deployment, Fault
from dms.domain.event import new_id
from dms.domain.job import Job
from dms.domain.resources import Resources
from tests.fixtures.histories import START, request, running_job

A, B = "a" * 64, "b" * 64


def accepted(resume: ResumeFrom | None = None) -> Deployment:
    deployment = Deployment(new_id())
    deployment.ask("12D3KooWOwner", request(), "0.02728", resume=resume)
    deployment.grant(Resources(), ())
    return deployment


def running() -> Deployment:
    deployment = accepted()
    deployment.container_created("c1", "docker")
    deployment.container_started(START)
    return deployment


def offer(job: Job, number: int, size_bytes: int = 10, sha256: str = A) -> None:
    saved = Deployment.CheckpointSaved(
        number=number, name="x.tar.gz", size_bytes=size_bytes, sha256=sha256, saved_at=START
    )
    job.offer_checkpoint(saved, START + 1, 100)


def test_an_unchanged_workspace_is_no_news_and_numbers_have_no_gaps() -> None:
    deployment = running()
    assert deployment.save_checkpoint("x", 1, A, START)
    assert not deployment.save_checkpoint("x", 1, A, START + 1)
    assert deployment.save_checkpoint("x", 1, B, START + 2)
    assert deployment.checkpoint is not None
    assert deployment.checkpoint.number == 2


def test_the_same_trouble_is_told_once_until_a_checkpoint_was_made() -> None:
    deployment = running()
    assert deployment.skip_checkpoint("too large")
    assert not deployment.skip_checkpoint("too large")
    deployment.save_checkpoint("x", 1, A, START)
    assert deployment.skip_checkpoint("too large")


def test_after_the_end_none_is_made_but_the_last_may_be_delivered_once() -> None:
    deployment = running()
    deployment.save_checkpoint("x", 1, A, START)
    deployment.fail("gone", Fault.PROVIDER)
    assert not deployment.save_checkpoint("x", 1, B, START)
    assert not deployment.skip_checkpoint("full")
    assert not deployment.checkpoint_delivered(B)
    assert deployment.checkpoint_delivered(A)
    assert not deployment.checkpoint_delivered(A)


def test_a_workspace_is_restored_once_and_only_with_a_checkpoint() -> None:
    plain, resumed = accepted(), accepted(ResumeFrom(name="x.tar.gz", size_bytes=1, sha256=A))
    plain.workspace_restored()
    assert not plain.restored
    resumed.workspace_restored()
    before = resumed.version
    resumed.workspace_restored()
    assert (resumed.restored, resumed.version) == (True, before)


def test_the_newest_offer_is_wanted_until_it_is_here_or_lost() -> None:
    job = running_job()
    offer(job, 1)
    offer(job, 2, sha256=B)
    first = job.checkpoint_wanted
    assert first is not None
    assert (first.number, first.sha256) == (2, B)
    offer(job, 3)
    assert job.checkpoint_is_here(first, "x")  # it came while the next was offered
    assert job.checkpoint_wanted is not None
    assert job.checkpoint_wanted.number == 3
    assert job.lose_checkpoint(3, "gone")
    assert not job.lose_checkpoint(3, "gone")
    assert job.checkpoint_wanted is None


def test_one_that_is_too_large_is_lost_at_once() -> None:
    job = running_job()
    offer(job, 1, size_bytes=101)
    assert job.checkpoint_wanted is None


def test_an_archive_that_is_gone_is_told_once_until_the_next_one() -> None:
    deployment = running()
    assert not deployment.delete_checkpoint("expired")
    deployment.save_checkpoint("one", 1, "a" * 64, 1)
    assert deployment.checkpoint_here
    assert deployment.delete_checkpoint("expired")
    assert not deployment.delete_checkpoint("expired")
    assert not deployment.checkpoint_here
    deployment.save_checkpoint("two", 1, "b" * 64, 2)
    assert deployment.checkpoint_here
