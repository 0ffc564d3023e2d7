"""The views' file while it is in use: one connection, one user at a time, and what an error of it means."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from dms.adapters.views.database import (
    Damaged,
    forget_beside,
    identity,
    is_of_the_value,
    meaning,
    open_database,
    set_aside,
)
from dms.errors import LogUnavailable

T = TypeVar("T")


class ViewFile:
    def __init__(self, database: Path, why_closed: Callable[[], str | None]) -> None:
        self.path, self._why_closed = database, why_closed
        self.damaged = asyncio.Event()  # somebody met it
        self._lock = threading.Lock()  # around the one connection; every use is short
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._is_ours = self._was_ours = False

    @property
    def is_current(self) -> bool:
        """Whether it holds our views, and is still the file that stands there."""
        return self._is_ours and self._opened == identity(self.path)

    @property
    def is_ours(self) -> bool:
        """Whether what is open holds views of this log. Until that is known nobody is shown any of it."""
        return self._is_ours

    @property
    def was_ours(self) -> bool:
        """One that held our views was open, and not set aside since."""
        return self._was_ours

    def accept(self) -> None:
        """What is open holds views of this log."""
        self._is_ours = self._was_ours = True

    async def open(self) -> None:
        """Anew, where one was open. Raises Damaged, LogUnavailable."""
        self._is_ours, self._loop = False, asyncio.get_running_loop()
        replaced = self._opened is not None and self._opened != identity(self.path)
        self.close()
        if replaced:
            await asyncio.to_thread(forget_beside, self.path)
        connection = await asyncio.to_thread(open_database, self.path)
        with self._lock:
            self._connection = connection
            self.damaged.clear()
        self._opened = identity(self.path)

    def close(self) -> None:
        self._is_ours = False
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()

    async def set_aside(self) -> Path:
        """Where it is now. Raises LogUnavailable."""
        self.close()
        self._opened, self._was_ours = None, False
        return await asyncio.to_thread(set_aside, self.path)

    def use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Blocking. Raises LogUnavailable; Damaged, and then the file is to be made anew."""
        with self.using() as connection:
            return work(connection)

    @contextlib.contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """As `use`."""
        with self._lock:
            if self._connection is None:
                raise self._not_kept()
            try:
                yield self._connection
            except Damaged as error:
                raise Damaged(f"{self.path} does not hold what it should: {error}") from error
            except sqlite3.Error as error:
                if is_of_the_value(error):
                    raise
                raise meaning(error, self.path) from error

    def _not_kept(self) -> LogUnavailable:
        return LogUnavailable(f"the views are not kept: {self._why_closed() or 'they are being opened'}")

    def check_current(self) -> None:
        """Raises LogUnavailable when another file stands there."""
        if self._opened != identity(self.path):
            raise LogUnavailable(f"{self.path} was removed or replaced")

    def look_up(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """As `use`, for those who want to know something: damage that they meet is mended at once."""
        if not self._is_ours:
            raise self._not_kept()
        try:
            return self.use(read)
        except Damaged:
            self._loop.call_soon_threadsafe(self.damaged.set)
            raise

    def empty_journal(self) -> bool:
        """Tries once, without waiting: those who read rows wait for the lock. False while another process holds it."""
        with self.using() as connection:
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                connection.execute("PRAGMA busy_timeout = 5000")
