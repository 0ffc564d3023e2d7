"""The live objects of a log's aggregates: loaded once, kept while a save of them waits, taken back when it fails."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from eventsourcing.application import AggregateNotFoundError, Repository
from eventsourcing.persistence import PersistenceError

from dms.adapters.eventlog.health import LogHealth
from dms.adapters.eventlog.mapper import LogStore
from dms.domain.aggregate import Aggregate

A = TypeVar("A", bound=Aggregate)
log = logging.getLogger(__name__)

CACHED_AGGREGATES = 1024  # some 9 kB each; others are read again


class Aggregates:
    """eventsourcing's Repository with its cache, those whose events are not on the disk yet, and the indexes in memory
    that follow what is decided."""

    def __init__(self, store: LogStore, health: LogHealth) -> None:
        self._health = health
        self._repository: Repository[str] = Repository(
            store, cache_maxsize=CACHED_AGGREGATES, fastforward=False, deepcopy_from_cache=False
        )
        self._uncommitted: dict[str, tuple[Aggregate, int]] = {}  # never evicted while a save of it waits
        self._indexes: dict[type[Aggregate], list[Callable[[str, Any], None]]] = {}

    def load(self, kind: type[A], key: str) -> A | None:
        """See EventLog.load. Raises LogUnavailable."""
        name = f"{kind.KIND}-{key}"
        busy = self._uncommitted.get(name)
        if busy is not None:
            return cast("A", busy[0])
        projector = cast("Callable[[A | None, Any], A | None]", kind.project)
        try:
            return self._repository.get(name, projector_func=projector)
        except AggregateNotFoundError:
            return None
        except PersistenceError as error:
            raise self._health.unreadable(error) from error

    def index(self, kind: type[A], restate: Callable[[str, A | None], None]) -> None:
        """See EventLog.index."""
        self._indexes.setdefault(kind, []).append(restate)

    def keep_new(self, aggregate: Aggregate) -> None:
        """One that nobody has loaded yet."""
        if self._repository.cache is not None:
            self._repository.cache.put(aggregate.id, aggregate)

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
        for aggregate in aggregates:
            self._uncommitted.pop(aggregate.id, None)
        self.evict([aggregate.id for aggregate in aggregates])
        self._restate(list(dict.fromkeys(aggregates)))

    def evict(self, names: Sequence[str]) -> None:
        """The next load of these streams reads them anew."""
        for name in names:
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
