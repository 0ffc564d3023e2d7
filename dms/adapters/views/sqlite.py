"""The persisted views, and the task that keeps them: each batch of the log is folded into their tables, with the
position reached, in one transaction. Views are no truth: the file can be deleted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from dms.adapters.views.database import Damaged, forget_aside
from dms.adapters.views.file import ViewFile
from dms.adapters.views.folding import TableFolds
from dms.adapters.views.past import PastFolds, PastViews
from dms.adapters.views.queries import Asked
from dms.adapters.views.table import ViewTable
from dms.application.loops import Loop, Loops, Patience
from dms.application.ports.event_log import EventLog
from dms.application.tasks import cancelled
from dms.application.wakeup import Wakeup
from dms.domain.event import Recorded
from dms.errors import Conflict, LogCorrupt, LogUnavailable, NotFound
from projections.base import LeftOut, Page, Projection, Where

S = TypeVar("S", bound=Struct)
T = TypeVar("T")
log = logging.getLogger(__name__)

REBUILD_BATCH = 5000
BUSY_SECONDS = 0.1
TRUNCATE_SECONDS = 10.0  # readers may hold the write-ahead log for a moment
PATIENCE = Patience(longest=15.0, steady_seconds=10.0)


class SQLiteViews:
    """Implements projections.base.Views. `start()` catches up with the log before it returns."""

    def __init__(
        self,
        database: Path,
        event_log: EventLog,
        projections: Sequence[Projection[Any]],
        loops: Loops | None = None,
    ) -> None:
        self._log, self._loops = event_log, loops or Loops()
        self._file = ViewFile(database, lambda: self.failure)
        self._views = {p.name: ViewTable(p) for p in projections}
        self._tables = TableFolds()
        self._folds = PastFolds()
        self._moved = Wakeup()
        self._rebuilding: set[str] = set()
        self._one_rebuild = asyncio.Lock()
        self._begun: asyncio.Future[None] | None = None
        self._following: Loop | None = None
        self._closed = False

    async def start(self) -> None:
        """Returns once they have caught up; waits while the file can't be used, or an archived event that is needed
        can't be read. Raises LogCorrupt when the log can't be read, or a view has seen events that the log does not
        have."""
        self._begun = asyncio.get_running_loop().create_future()
        self._following = self._loops.start(
            "views", self._keep, needed=True, on_death=lambda _: self._wake(), patience=PATIENCE
        )
        await self._begun

    async def close(self) -> None:
        self._closed = True
        if self._following is not None:
            await self._following.close()
        self._wake()  # none of those who wait must do so for ever
        self._file.close()

    @property
    def failure(self) -> str | None:
        """Why the views are not kept just now, or None."""
        return self._following.trouble if self._following is not None else None

    async def wait(self, position: int) -> None:
        while not self._file.is_ours or any(view.position < position for view in self._views.values()):
            if self._closed or self.failure is not None:
                raise LogUnavailable(f"the views are not kept: {self.failure or 'the DMS is stopping'}")
            await self._moved.wait()

    # --- the file ------------------------------------------------------------------------------------
    async def _keep(self) -> None:
        """Opens the file where that is needed, catches up, and goes on with the log."""
        try:
            try:
                if not self._file.is_current:
                    await self._open()
                await self._catch_up(*self._views.values())
                self._settle(None)
                self._wake()
                await self._follow_until_damaged()
            except Damaged as error:
                raise LogUnavailable(await self._set_aside(error)) from error
        except LogCorrupt as error:
            self._settle(error)
            raise

    def _settle(self, error: LogCorrupt | None) -> None:
        """Tells who started us."""
        if self._begun is None or self._begun.done():
            return
        if error is None:
            self._begun.set_result(None)
        else:
            self._begun.set_exception(error)

    async def _open(self) -> None:
        if again := self._file.was_ours:  # the one that was open is gone, and what it held can only come from the log
            log.error("%s was removed or replaced; the views are made anew", self._file.path)
            await self._check_archive()
        await self._file.open()
        useless = await asyncio.to_thread(self._file.use, self._open_views)
        useless += [v for v in self._views.values() if v not in useless and not self._is_of_the_log(v, again=again)]
        if useless:
            await self._check_archive()
        for view in useless:
            await asyncio.to_thread(self._reset, view)
        self._file.accept()
        self._folds = PastFolds()  # who folds just now keeps what it read in the old one

    def _open_views(self, connection: sqlite3.Connection) -> list[ViewTable]:
        """Those that can't go on from what is there."""
        return [view for view in self._views.values() if not view.open(connection)]

    def _is_of_the_log(self, view: ViewTable, *, again: bool) -> bool:
        """again: not at the start, when it is the log that may be too short."""
        name, head, path = view.projection.name, self._log.head, self._file.path
        if view.position > head:
            told = f"view {name} has seen position {view.position}, the log ends at {head}"
            if again:
                raise Damaged(f"{path} is of another log: {told}")
            raise LogCorrupt(f"{told}: events are missing, or {path} belongs to another log (then delete it)")
        found = self._file.use(lambda c: c.execute("SELECT hash FROM view WHERE name = ?", (name,)).fetchone())
        if found is None or found[0] == self._log.previous_hash(view.position + 1):
            return True
        log.warning("view %s was made from another history; it is rebuilt", name)
        return False

    async def _set_aside(self, error: Damaged) -> str:
        """What was done, in words. Raises ArchiveUnreadable, while nothing could be made anew: then the file stays."""
        await self._check_archive()
        aside = await self._file.set_aside()
        return f"{error}; it is set aside as {aside}, and the views are made anew from the log"

    # --- look-ups ------------------------------------------------------------------------------------
    def positions(self) -> Mapping[str, int]:
        return {name: view.position for name, view in self._views.items()}

    def left_out(self) -> Mapping[str, LeftOut]:
        return {name: view.left_out for name, view in self._views.items() if view.left_out is not None}

    async def get(self, projection: Projection[S], key: str) -> S | None:
        view = self._views[projection.name]
        row: S | None = self._file.look_up(lambda connection: view.get(key, connection))
        return row

    async def page(
        self,
        projection: Projection[S],
        *,
        limit: int,
        after: str = "",
        where: Where | None = None,
        newest_first: bool = False,
        order_by: str = "",
        offset: int = 0,
        counted: bool = False,
    ) -> Page:
        asked = Asked(limit, after, where or {}, newest_first, order_by, offset, counted)
        return await self.read(lambda connection: self.table(projection).page(connection, asked))

    async def totals(
        self, projection: Projection[Any], columns: Sequence[str], where: Where, sums: Sequence[str] = ()
    ) -> Mapping[tuple[Any, ...], tuple[int, ...]]:
        return await self.read(lambda connection: self.table(projection).totals(connection, columns, where, sums))

    # --- for the views of the past -------------------------------------------------------------------
    def at(self, position: int) -> PastViews:
        return PastViews(self, self._log, self._folds, position)

    def table(self, projection: Projection[Any]) -> ViewTable:
        return self._views[projection.name]

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Raises LogUnavailable."""
        return await asyncio.to_thread(self._file.search, work)

    async def snapshot(self, projection: Projection[Any], position: int) -> tuple[int, dict[str, Any]]:
        return await self.read(lambda connection: self.table(projection).snapshot(connection, position))

    # --- made anew -----------------------------------------------------------------------------------
    async def rebuild(self, name: str) -> int:
        view = self._views.get(name)
        if view is None:
            raise NotFound(f"no view {name}; there are {', '.join(sorted(self._views))}")
        await self._check_archive()
        if name in self._rebuilding:
            raise Conflict(f"view {name} is being rebuilt already")
        await self._rebuild(view)
        return view.position

    async def _check_archive(self) -> None:
        """Raises ArchiveUnreadable, before a view is emptied that could not be made again."""
        position, end = 0, self._log.first - 1
        while position < end:
            events = await self._log.read(position, min(REBUILD_BATCH, end - position))
            position = events[-1].position

    async def _rebuild(self, *views: ViewTable) -> None:
        """After one that began earlier: that has read older events, which may be erased meanwhile."""
        names = {view.projection.name for view in views}
        async with self._one_rebuild:
            self._rebuilding |= names
            try:
                for view in views:
                    await asyncio.to_thread(self._reset, view)
                await self._catch_up(*views)
            finally:
                # No await since the last look at the head: the live task goes on exactly behind it.
                self._rebuilding -= names
        self._wake()

    async def renew(self) -> None:
        await self.wait(self._log.head)  # what is folded already was read before; nothing older comes after
        await self._check_archive()
        await self._rebuild(*self._views.values())
        self._folds = PastFolds()  # who folds just now keeps what it read in the old one
        await asyncio.to_thread(forget_aside, self._file.path)  # an erased person must not live on in them
        await self._empty_journal()

    async def _empty_journal(self) -> None:
        """Dropped tables were overwritten in the database (secure_delete); the write-ahead log has older pages. Raises
        LogUnavailable while another process reads them."""
        deadline = asyncio.get_running_loop().time() + TRUNCATE_SECONDS
        while not await asyncio.to_thread(self._file.empty_journal):
            if asyncio.get_running_loop().time() > deadline:
                raise LogUnavailable(
                    f"{self._file.path.name}-wal has older rows, and another program reads them: try again"
                )
            await asyncio.sleep(BUSY_SECONDS)

    def _wake(self) -> None:
        """Those who wait look again."""
        self._moved.wake()

    def _reset(self, view: ViewTable) -> None:
        with self._file.using():
            view.reset()

    async def _catch_up(self, *views: ViewTable) -> None:
        """All of them from one reading of the log; those that are ahead leave alone what they have seen."""
        while (reached := min((view.position for view in views), default=self._log.head)) < self._log.head:
            events = await self._log.read(reached, REBUILD_BATCH)
            await asyncio.to_thread(self._fold, views, events)

    async def _follow_until_damaged(self) -> None:
        following, damaged = asyncio.ensure_future(self._follow()), asyncio.ensure_future(self._file.damaged.wait())
        try:
            await asyncio.wait({following, damaged}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        finally:
            await cancelled(following)
            damaged.cancel()
        raise Damaged(f"{self._file.path} is damaged")

    async def _follow(self) -> None:
        """Live: each batch goes into all views in one transaction."""
        start = min((view.position for view in self._views.values()), default=0)
        async with contextlib.aclosing(self._log.subscribe(start)) as batches:
            async for events in batches:
                live = [view for name, view in self._views.items() if name not in self._rebuilding]
                for view in live:
                    if view.position < events[0].position - 1:  # its rebuilding was broken off
                        await self._catch_up(view)
                await asyncio.to_thread(self._fold, live, events)
                if self._following is not None:
                    self._following.well()
                self._wake()

    def _fold(self, views: Sequence[ViewTable], events: Sequence[Recorded]) -> None:
        self._file.check_current()
        with self._file.using() as connection:
            self._tables.take(connection, views, events)
