"""The views' file while it is in use: its connections, each for one user at a time, and what an error of it means.

One writes. Of the two that only read, one is for searches, which may take seconds, and one for single rows: the loop
itself looks those up, and waits neither for a search nor for a fold.
"""

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
    open_to_read,
    set_aside,
)
from dms.database import emptied_journal
from dms.errors import LogUnavailable

T = TypeVar("T")


class _Access:
    """A connection, once there is one; whoever holds the lock may use it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: sqlite3.Connection | None = None

    def open(self, connection: sqlite3.Connection) -> None:
        with self.lock:
            self.connection = connection

    def interrupt(self) -> None:
        """What is asked just now ends with an error."""
        if self.connection is not None:
            self.connection.interrupt()

    def close(self) -> None:
        with self.lock:
            connection, self.connection = self.connection, None
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()


class ViewFile:
    def __init__(self, database: Path, why_closed: Callable[[], str | None]) -> None:
        self.path, self._why_closed = database, why_closed
        self.damaged = asyncio.Event()  # somebody met it
        self._writing, self._searching, self._rows = _Access(), _Access(), _Access()
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
        self._writing.open(await asyncio.to_thread(open_database, self.path))
        for access in (self._searching, self._rows):
            access.open(await asyncio.to_thread(open_to_read, self.path))
        self.damaged.clear()
        self._opened = identity(self.path)

    def close(self) -> None:
        self._is_ours = False
        self._searching.interrupt()  # the loop, which closes, can't wait for it
        for access in (self._rows, self._searching, self._writing):  # the last one empties the write-ahead log
            access.close()

    async def set_aside(self) -> Path:
        """Where it is now. Raises LogUnavailable."""
        self.close()
        self._opened, self._was_ours = None, False
        return await asyncio.to_thread(set_aside, self.path)

    def use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Blocking. Raises LogUnavailable; Damaged, and then the file is to be made anew."""
        with self.using() as connection:
            return work(connection)

    def using(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """As `use`: the connection that writes."""
        return self._in_turn(self._writing)

    @contextlib.contextmanager
    def _in_turn(self, access: _Access) -> Iterator[sqlite3.Connection]:
        with access.lock:
            if access.connection is None:
                raise self._not_kept()
            try:
                yield access.connection
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
        """For the loop too: one row, say. Raises as `use`; damage that is met is mended at once."""
        with self._looking(self._rows) as connection:
            return read(connection)

    def search(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """As `look_up`, but it may take its time, and all that it reads is of one moment. Blocking."""
        with self._looking(self._searching) as connection:
            connection.execute("BEGIN")
            try:
                return read(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _looking(self, access: _Access) -> Iterator[sqlite3.Connection]:
        if not self._is_ours:
            raise self._not_kept()
        try:
            with self._in_turn(access) as connection:
                yield connection
        except Damaged:
            self._loop.call_soon_threadsafe(self.damaged.set)
            raise

    def empty_journal(self) -> bool:
        """Tries once, between two searches. False while somebody reads it."""
        with self._searching.lock, self.using() as connection:
            return emptied_journal(connection)
