"""What somebody else answers, a directory service or a disk of the network, may never come: then its caller is told,
and nobody else waits."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path

import pytest

from dms import operators
from dms.application.files import file_parts
from dms.application.files.file_parts import measure, on_disk, open_regular, opened, read_pieces
from dms.errors import Unavailable
from dms.long_work import long_work
from dms.operators import Operators
from dms.outside_calls import OutsideCalls
from tests.fixtures.waiting import wait_for

A_STRANGER = 54_321
MANY = 60


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """Ends what hangs."""
    until = threading.Event()
    yield until
    until.set()


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> OutsideCalls:
    calls = OutsideCalls("The disk", seconds=0.5, most=8)
    monkeypatch.setattr(file_parts, "_DISKS", calls)
    return calls


async def others_go_on() -> None:
    async with asyncio.timeout(120):
        assert await asyncio.to_thread(int, "1") == 1
        assert await long_work(int, "2") == 2


async def test_a_directory_that_hangs_holds_up_only_who_needs_it(
    hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "_is_of_group", lambda _uid: hang.wait(600))
    monkeypatch.setattr(operators, "DIRECTORY_SECONDS", 0.5)
    known = Operators()
    asked = [asyncio.ensure_future(known.has(A_STRANGER + n)) for n in range(MANY)]
    await asyncio.sleep(0)
    await others_go_on()
    assert await known.has(0)
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(one) for one in told} == {Unavailable}
    assert "directory of users has not answered for 0.5 s" in str(told[0])
    hang.set()
    await answers(partial(known.has, A_STRANGER))


@pytest.mark.parametrize("ask", [on_disk, opened])
async def test_a_disk_that_hangs_holds_up_only_who_needs_it(
    ask: Callable[..., Coroutine[object, object, object]], hang: threading.Event, disks: OutsideCalls
) -> None:
    asked = [asyncio.ensure_future(ask(partial(_hangs, hang))) for _ in range(MANY)]
    await asyncio.sleep(0)
    await others_go_on()
    assert {type(one) for one in await asyncio.gather(*asked, return_exceptions=True)} == {Unavailable}


def _hangs(until: threading.Event) -> int:
    until.wait(600)
    return os.open("/dev/null", os.O_RDONLY)


async def test_a_disk_that_hangs_while_a_file_is_read(
    hang: threading.Event, disks: OutsideCalls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is closed under a thread that still reads it: its number could be another file's by then."""
    disks._seconds = 3.0  # for its thread to begin
    pread, hung, gone_on = os.pread, threading.Event(), threading.Event()

    def hanging(fd: int, most: int, after: int) -> bytes:
        hung.set()
        hang.wait(600)
        block = pread(fd, most, after)  # of a file that was closed it would raise
        gone_on.set()
        return block

    monkeypatch.setattr(os, "pread", hanging)
    for name, read in {"pieces": lambda fd: anext(read_pieces(fd, 0, 7)), "measured": measure}.items():
        file = tmp_path / name
        file.write_bytes(b"content")
        for event in (hang, hung, gone_on):
            event.clear()
        fd = open_regular(file)
        with pytest.raises(Unavailable):
            await read(fd)
        assert hung.is_set()
        os.fstat(fd)
        hang.set()
        await asyncio.to_thread(gone_on.wait, 120)
        await wait_for(partial(is_closed, fd))


def is_closed(fd: int) -> bool:
    return not Path(f"/proc/self/fd/{fd}").exists()


async def test_who_tries_again_takes_no_second_place(
    hang: threading.Event, disks: OutsideCalls, tmp_path: Path
) -> None:
    """As a peer that fetches a file from a disk that hangs: its tries would take all places, one after the other."""
    hangs, fine = tmp_path / "hangs", tmp_path / "fine"
    for _ in range(2 * disks._most):
        with pytest.raises(Unavailable, match=r"has not answered (for 0.5 s|what was asked before)"):
            await opened(lambda _path: _hangs(hang), hangs)
    assert disks._running == 1
    assert await on_disk(lambda _path: 1, fine) == 1
    hang.set()
    await answers(partial(on_disk, lambda _path: True, hangs))


async def test_a_read_that_hangs_keeps_its_file_from_being_opened_again(
    hang: threading.Event, disks: OutsideCalls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    monkeypatch.setattr(os, "pread", lambda _fd, _most, _after: hang.wait(600) and b"")
    with pytest.raises(Unavailable, match=r"for 0.5 s"):
        await anext(read_pieces(open_regular(file), 0, 7))
    with pytest.raises(Unavailable, match="asked before"):
        await opened(open_regular, file)


async def test_a_place_is_free_again_once_a_call_returns(hang: threading.Event) -> None:
    calls = OutsideCalls("It", seconds=0.2, most=2)
    for _ in range(4):
        with pytest.raises(Unavailable):
            await calls.call(partial(hang.wait, 600))
    hang.set()
    await answers(partial(calls.call, lambda: True))


async def test_threads_that_are_used_up_are_an_error_that_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = OutsideCalls("It", seconds=60, most=1)
    with monkeypatch.context() as less:
        less.setattr(threading.Thread, "start", _no_more)
        with pytest.raises(OSError, match="no thread"):
            await calls.call(int)
    assert await calls.call(int) == 0


def _no_more(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


async def answers(ask: Callable[[], Coroutine[object, object, bool]]) -> None:
    async with asyncio.timeout(120):
        while True:
            try:
                assert await ask()
            except Unavailable:
                await asyncio.sleep(0.01)
                continue
            return
