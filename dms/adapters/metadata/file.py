"""`metadataV2.json`, for programs that read the original's file: a view of the log, never read back by us.

It follows the device's view, which is kept with its position in the log. So after a crash the next start
writes (or removes) what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from pathlib import Path

from dms.application.loops import Loop, Loops
from dms.application.ports.event_log import EventLog
from dms.application.wakeup import Wakeup
from dms.application.writes import Writes
from dms.disk import FILE_MODE, write_file
from projections.base import Views
from projections.device import OWN, TOPICS, DeviceRow, DeviceView, metadata

log = logging.getLogger(__name__)

FILE_NAME = "metadataV2.json"
RETRY_SECONDS = 5.0
SETTLE_SECONDS = 2.0
_VIEW = DeviceView()


class MetadataFile:
    def __init__(
        self, event_log: EventLog, views: Views, folder: Path, loops: Loops | None = None, writes: Writes | None = None
    ) -> None:
        self._log, self._views, self._path = event_log, views, folder / FILE_NAME
        self._loops, self._writes = loops or Loops(), writes or Writes()
        self._position = 0
        self._written_position = 0  # the position of the change that the file shows
        self._moved = Wakeup()
        self._following: Loop | None = None

    async def start(self) -> None:
        """The views are to run already."""
        self._position = self._log.head
        self._following = self._loops.start("metadata file", self._follow)

    async def close(self) -> None:
        if self._following is not None:
            await self._following.close()

    async def path(self) -> str:
        """Where the file is; empty when there is none. Shows what was recorded before the call, unless the
        disk is slower than SETTLE_SECONDS."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._views.wait(self._log.head)
                row = await self._views.get(_VIEW, OWN)
                while row is not None and row.ever_onboarded and self._written_position < row.position:
                    await self._moved.wait()
        return str(self._path) if self._path.is_file() else ""

    async def _follow(self) -> None:
        await self._show(self._position)
        async with contextlib.aclosing(self._log.subscribe(self._position, topics=TOPICS)) as batches:
            async for batch in batches:
                self._position = batch[-1].position
                await self._show(self._position)

    async def _show(self, position: int) -> None:
        """Brings the file to where the view is, which is at least at the position; tries until it works."""
        await self._views.wait(position)
        while True:
            row = await self._views.get(_VIEW, OWN)
            if row is None or not row.ever_onboarded:
                return  # never onboarded: a file that is here belongs to another program
            try:
                await asyncio.to_thread(_write, self._path, row)
            except OSError as error:
                self._writes.failed("metadata", f"{self._path}: {error.strerror}")
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._writes.worked("metadata")
            self._written_position = row.position
            self._moved.wake()
            return


def _write(path: Path, row: DeviceRow) -> None:
    """Whole or not at all: a reader sees the old file or the new one. Raises OSError."""
    if not row.onboarded:
        path.unlink(missing_ok=True)
        return
    text = json.dumps(metadata(row), indent=1, ensure_ascii=False).encode()
    if path.is_file() and path.read_bytes() == text and path.stat().st_mode & 0o777 == FILE_MODE:
        return
    write_file(path, text)
