"""A file that is opened in a thread is closed again when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from dms.application.files.file_parts import open_regular, opened
from dms.errors import NotFound
from tests.fixtures.waiting import wait_for


def is_open(file: Path) -> bool:
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return str(file) in [os.readlink(link) for link in links if os.path.lexists(link)]  # noqa: PTH115


async def test_who_waits_has_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    handle = await opened(open_regular, tmp_path / "file")
    assert os.read(handle, 100) == b"content"
    os.close(handle)
    with pytest.raises(NotFound):
        await opened(open_regular, tmp_path / "none")


@pytest.mark.parametrize("there", [True, False])
async def test_it_is_closed_when_who_waited_is_gone(tmp_path: Path, there: bool) -> None:
    file, begun, go_on = tmp_path / "file", threading.Event(), threading.Event()
    if there:
        file.touch()
    handles: list[int] = []

    def slowly() -> int:
        begun.set()
        go_on.wait(120)
        handles.append(open_regular(file))
        return handles[0]

    waiting = asyncio.ensure_future(opened(slowly))
    await asyncio.to_thread(begun.wait, 120)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go_on.set()
    if there:
        await wait_for(lambda: handles)
    await wait_for(lambda: not is_open(file))
