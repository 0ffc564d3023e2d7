"""The log folded into the views' tables: a batch at a time, each event into the views that use it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence

from dms.adapters.views.table import ViewTable
from dms.domain.event import AnyFact, Recorded
from projections.base import Folds

Tables = tuple[ViewTable, ...]


class TableFolds:
    """Live, in a rebuild and after a pause. For one thread at a time."""

    def __init__(self) -> None:
        self._folds: dict[Tables, Folds] = {}
        self._failed: list[tuple[str, AnyFact, Exception]] = []

    def take(self, connection: sqlite3.Connection, tables: Sequence[ViewTable], events: Sequence[Recorded]) -> None:
        """Moves the tables on, all or none, by events that have no gap between them. Each takes those that follow on
        its position; where none does, the table was emptied since they were read. An event that can't be folded or
        stored is left out of its view, and the row stays as it was: one must not end the view. Raises Damaged,
        sqlite3.Error for errors of the file."""
        before = [table.left_out for table in tables]
        reached: list[tuple[ViewTable, int]] = []
        try:
            connection.execute("BEGIN")
            for group, fresh in _by_position(tables, events):
                self._fold(group, fresh)
                for table in group:
                    table.reach(fresh[-1])
                    reached.append((table, fresh[-1].position))
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            self._failed.clear()
            for table, was in zip(tables, before, strict=True):
                table.rows.changed.clear()
                table.left_out = was
            raise
        for table, position in reached:  # only now others read it: they have connections of their own
            table.position = position

    def _fold(self, group: Tables, fresh: Sequence[Recorded]) -> None:
        self._of(group).take(fresh)
        failed, self._failed = self._failed, []
        for table in group:
            fault = table.store()
            if fault is None:
                self._leave_out(table, failed)
            elif len(fresh) == 1:
                table.leave_out(fresh[0], fault)
            else:  # which of them it was is found out one by one
                for recorded in fresh:
                    self._fold((table,), [recorded])

    def _of(self, group: Tables) -> Folds:
        found = self._folds.get(group)
        if found is None:
            views = [(table.projection, table.rows) for table in group]
            found = self._folds[group] = Folds(views, lambda *failed: self._failed.append(failed))
        return found

    @staticmethod
    def _leave_out(table: ViewTable, failed: Sequence[tuple[str, AnyFact, Exception]]) -> None:
        for view, recorded, error in failed:
            if view == table.projection.name and isinstance(recorded, Recorded):
                table.leave_out(recorded, error)


def _by_position(
    tables: Sequence[ViewTable], events: Sequence[Recorded]
) -> Iterator[tuple[Tables, Sequence[Recorded]]]:
    """Tables at the same position, and the events behind it; tables without any are left out."""
    groups: dict[int, list[ViewTable]] = {}
    for table in tables:
        groups.setdefault(table.position, []).append(table)
    for position, group in groups.items():
        seen = position + 1 - events[0].position
        if 0 <= seen < len(events):
            yield tuple(group), events[seen:]
