"""How long a job waits for a disk that takes nothing."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from dms.application.files.disk_patience import DISK_SECONDS, DiskPatience
from dms.errors import DiskTrouble, NoPlaceForInput

FULL = DiskTrouble("File 1 can't be written: the disk is full.")


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)


def store(patience: DiskPatience, job_id: str, error: Exception | None = None) -> None:
    with patience.of(job_id):
        if error is not None:
            raise error


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clock]:
    with monkeypatch.context() as context:
        yield Clock(context)


@contextmanager
def tried_again(error: Exception) -> Iterator[None]:
    with pytest.raises(type(error)) as raised:
        yield
    assert raised.value is error


@pytest.mark.parametrize(
    "error", [FULL, *(OSError(number, os.strerror(number)) for number in (errno.EIO, errno.EMFILE, errno.ENOMEM))]
)
async def test_what_the_machine_lacks_is_tried_again_until_it_has_lasted(clock: Clock, error: Exception) -> None:
    patience = DiskPatience()
    with tried_again(error):
        store(patience, "a", error)
    clock.now = DISK_SECONDS - 1
    with tried_again(error):
        store(patience, "a", error)
    clock.now = DISK_SECONDS
    with pytest.raises(NoPlaceForInput, match=r"this provider can't store it: .*(full|error|open files|memory)"):
        store(patience, "a", error)


async def test_each_trouble_and_each_job_has_the_whole_patience(clock: Clock) -> None:
    patience = DiskPatience()
    for job_id in ("a", "b"):
        with tried_again(FULL):
            store(patience, job_id, FULL)
    store(patience, "a")
    patience.forget("b")
    clock.now = DISK_SECONDS
    for job_id in ("a", "b"):
        with tried_again(FULL):
            store(patience, job_id, FULL)


async def test_errors_of_other_kinds_are_not_waited_for(clock: Clock) -> None:
    patience, error = DiskPatience(), OSError(errno.EACCES, "Permission denied")
    for clock.now in (0.0, DISK_SECONDS):
        with tried_again(error):
            store(patience, "a", error)
