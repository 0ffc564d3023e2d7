"""What is remembered of jobs does not grow with their number, though nobody says when they are over."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from dms.application import lasting
from dms.application.checkpoints import checkpoint_keeper
from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.checkpoints.checkpoint_keeper import CheckpointKeeper, CheckpointTimes
from dms.application.lasting import Lasting
from dms.application.loops import Loops
from dms.application.results.contents import Contents
from dms.application.results.result_files import ResultFiles
from dms.domain.event import new_id
from dms.errors import NotFound

NOBODY = cast("Any", None)


async def test_checkpoints_that_are_read_after_the_end_of_their_job(tmp_path: Path) -> None:
    keeper = CheckpointKeeper(NOBODY, NOBODY, CheckpointFiles(tmp_path), NOBODY, lambda: 0, CheckpointTimes())
    jobs = [new_id() for _ in range(checkpoint_keeper.MOST_REMEMBERED + 10)]
    for job_id in jobs:
        keeper._served("peer", job_id, 1)
    assert list(keeper._read_at) == jobs[10:]


async def test_trouble_that_nobody_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasting, "MOST_REMEMBERED", 3)
    trouble = Lasting()
    assert not any(trouble.has_lasted(key, 60.0) for key in "abcde")
    assert list(trouble._since) == ["c", "d", "e"]
    assert trouble.has_lasted("c", 0.0)


class _NoJobs:
    def load(self, *_: object) -> None:
        return None


async def test_jobs_whose_results_are_asked_for_and_are_not_there(tmp_path: Path) -> None:
    log = cast("Any", _NoJobs())
    contents = Contents(log, CheckpointFiles(tmp_path), ResultFiles(tmp_path), NOBODY, Loops())
    asked = await asyncio.gather(*(contents.of(new_id()) for _ in range(10)), return_exceptions=True)
    assert [type(answer) for answer in asked] == [NotFound] * 10
    assert not contents._opening
