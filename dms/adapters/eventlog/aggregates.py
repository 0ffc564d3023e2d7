"""The live objects of a log's aggregates: one of each, kept while a save of it waits, taken back when it fails.

Who holds one over an await holds the one that others load meanwhile, and decides on what they decided. Only what was
taken back or erased meanwhile is another's now, and is not saved.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

from eventsourcing.application import AggregateNotFoundError, Repository
from eventsourcing.persistence import PersistenceError

from dms.adapters.eventlog.health import LogHealth
from dms.adapters.eventlog.mapper import LogStore, Restatements
from dms.domain.aggregate import Aggregate
from dms.errors import Conflict, LogUnavailable

A = TypeVar("A", bound=Aggregate)
log = logging.getLogger(__name__)

CACHED_AGGREGATES = 1024  # some 9 kB each; others are read again


class Aggregates:
    """eventsourcing's Repository with its cache, those whose events are not on the disk yet, and the indexes in memory
    that follow what is decided."""

    def __init__(self, store: LogStore, health: LogHealth) -> None:
        self._health = health
        self._repository: Repository[str] = Repository(
            store,
            snapshot_store=Restatements(store),
            cache_maxsize=CACHED_AGGREGATES,
            fastforward=False,
            deepcopy_from_cache=False,
        )
        self._loaded: WeakValueDictionary[str, Aggregate] = WeakValueDictionary()  # as long as anybody has it
        self._uncommitted: dict[str, tuple[Aggregate, int]] = {}  # never evicted while a save of it waits
        self._indexes: dict[type[Aggregate], list[Callable[[str, Any], None]]] = {}

    def load(self, kind: type[A], key: str) -> A | None:
        """See EventLog.load. Raises LogUnavailable."""
        name = f"{kind.KIND}-{key}"
        live = self._live(name)
        if live is not None:
            self._cache(live)
            return cast("A", live)
        projector = cast("Callable[[A | None, Any], A | None]", kind.project)
        try:
            found: A = self._repository.get(name, projector_func=projector)
        except AggregateNotFoundError:
            return None
        except PersistenceError as error:
            raise self._health.unreadable(error) from error
        self._loaded[name] = found
        return found

    def _live(self, name: str) -> Aggregate | None:
        busy = self._uncommitted.get(name)
        return self._loaded.get(name) if busy is None else busy[0]

    def _cache(self, aggregate: Aggregate) -> None:
        if self._repository.cache is not None:
            self._repository.cache.put(aggregate.id, aggregate)

    def index(self, kind: type[A], restate: Callable[[str, A | None], None]) -> None:
        """See EventLog.index."""
        self._indexes.setdefault(kind, []).append(restate)

    def keep_new(self, aggregate: Aggregate) -> None:
        """One that nobody has loaded yet."""
        self._loaded[aggregate.id] = aggregate
        self._cache(aggregate)

    def check_live(self, aggregates: Sequence[Aggregate]) -> None:
        """Of those with something to save. Raises Conflict for one that is made a second time, LogUnavailable for one
        that was read anew since it was loaded: what was decided on it never was, and is to be decided again."""
        for aggregate in aggregates:
            live, is_new = self._live(aggregate.id), aggregate.pending[0][0] == 1
            if live is aggregate or (live is None and is_new):
                continue
            if is_new:
                raise Conflict(f"there is a {aggregate.id} already; read again, then retry")
            raise LogUnavailable(f"{aggregate.id} was read anew meanwhile; nothing was recorded, try again")

    # --- while they are being saved ------------------------------------------------------------------
    def any_uncommitted(self, aggregates: Sequence[Aggregate]) -> bool:
        """Such a one can't be forgotten: what the disk has of it is not yet what was decided."""
        return any(aggregate.id in self._uncommitted for aggregate in aggregates)

    def hold(self, aggregates: Sequence[Aggregate]) -> None:
        """Until `let_go`; tells the indexes what was decided."""
        for aggregate in aggregates:
            held = self._uncommitted.get(aggregate.id)
            self._uncommitted[aggregate.id] = (aggregate, 1 if held is None else held[1] + 1)
        self._restate(aggregates)

    def let_go(self, aggregates: Sequence[Aggregate]) -> None:
        """Their events are on the disk."""
        for aggregate in aggregates:
            held = self._uncommitted.get(aggregate.id)
            if held is not None and held[1] > 1:
                self._uncommitted[aggregate.id] = (held[0], held[1] - 1)
            else:
                self._uncommitted.pop(aggregate.id, None)

    def roll_back(self, aggregates: Sequence[Aggregate]) -> None:
        """Their objects are ahead of the log: the next load reads them anew, as the indexes do now."""
        live = [aggregate for aggregate in dict.fromkeys(aggregates) if self._live(aggregate.id) is aggregate]
        for aggregate in live:
            self._uncommitted.pop(aggregate.id, None)
        self.evict([aggregate.id for aggregate in live])
        self._restate(live)

    def evict(self, names: Sequence[str]) -> None:
        """The next load of these streams reads them anew."""
        for name in names:
            self._loaded.pop(name, None)
            with contextlib.suppress(KeyError):
                if self._repository.cache is not None:
                    self._repository.cache.get(name, evict=True)

    def _restate(self, aggregates: Sequence[Aggregate]) -> None:
        for aggregate in aggregates:
            kind, key = type(aggregate), aggregate.key
            for restate in self._indexes.get(kind, ()):
                try:
                    restate(key, self.load(kind, key))
                except Exception:  # an index's fault must not leave a command without its answer
                    log.exception("an index of %s-%s", kind.KIND, key, extra={"action": "index_failed"})
