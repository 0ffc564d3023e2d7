"""The offerings of the compute providers, kept in the order in which a request wants them: cheapest first.

A request for a job looks at the cheap ones until it has enough, however many providers there are. Pure.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

from msgspec import Struct

from dms.domain.directory import Offering

_CHUNK = 512  # rows looked at between two pauses: well below a millisecond
_TOP = "\U0010ffff"  # behind every peer id


class Row(Struct, gc=False):
    """What a request looks at of one provider. ends_at: µs of the clock that a search is given, 0 for never. price: NTX
    a minute, None when it names none that can be read; then it never gets a job."""

    peer_id: str
    offering: Offering
    ends_at: int
    price: Decimal | None
    free_cpu_mhz: int
    free_memory_mb: int

    @property
    def ready(self) -> bool:
        return self.price is not None and self.offering.onboarded and self.offering.online


class Shelf:
    """The providers of one channel: those that may take a job, by price and by peer id; the others beside them."""

    def __init__(self) -> None:
        self.by_price: list[tuple[Decimal, str]] = []
        self.by_id: list[str] = []
        self.away: dict[str, None] = {}

    def put(self, row: Row) -> None:
        if row.price is None or not row.ready:
            self.away[row.peer_id] = None
            return
        insort(self.by_price, (row.price, row.peer_id))
        insort(self.by_id, row.peer_id)

    def drop(self, row: Row) -> None:
        if row.price is None or not row.ready:
            self.away.pop(row.peer_id, None)
            return
        del self.by_price[bisect_left(self.by_price, (row.price, row.peer_id))]
        del self.by_id[bisect_left(self.by_id, row.peer_id)]

    def __len__(self) -> int:
        return len(self.by_id) + len(self.away)


class Offers:
    """At most one offering a peer. May change between the steps of a search (see `matching`)."""

    def __init__(self, offerings: Iterable[tuple[str, Offering]] = ()) -> None:
        self._rows: dict[str, Row] = {}
        self._shelves: dict[str, Shelf] = {}
        for peer_id, offering in offerings:
            self.put(peer_id, offering)

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, peer_id: str) -> Row | None:
        return self._rows.get(peer_id)

    def put(self, peer_id: str, offering: Offering, ends_at: int = 0) -> None:
        known = self._rows.get(peer_id)
        if known is not None and known.offering == offering:
            known.ends_at = ends_at  # a renewal, as most are
            return
        self.drop(peer_id)
        free = offering.free
        row = Row(peer_id, offering, ends_at, offering.price, free.cpu_mhz, free.memory_mb)
        self._rows[peer_id] = row
        self._shelves.setdefault(offering.channel, Shelf()).put(row)

    def drop(self, peer_id: str) -> None:
        row = self._rows.pop(peer_id, None)
        if row is None:
            return
        shelf = self._shelves[row.offering.channel]
        shelf.drop(row)
        if not len(shelf):
            del self._shelves[row.offering.channel]

    def shelf(self, channel: str) -> Shelf:
        return self._shelves.get(channel) or Shelf()

    def beside(self, channel: str, most: int) -> Iterator[Row]:
        """Some of those that can't be chosen on that channel: its own that are away, then others'."""
        others = (
            peer_id
            for name, shelf in self._shelves.items()
            if name != channel
            for peer_id in (*islice(shelf.by_id, most), *islice(shelf.away, most))
        )
        for peer_id in islice((*islice(self.shelf(channel).away, most), *islice(others, most)), most):
            yield self._rows[peer_id]

    def ids_of(self, channel: str) -> list[str]:
        """Of all on that channel, in order."""
        shelf = self.shelf(channel)
        return list(heapq.merge(shelf.by_id, sorted(shelf.away)))

    # --- in order, in chunks: what comes and goes meanwhile is met or not, and disturbs nothing ----------
    def priced(self, channel: str, after: tuple[Decimal, str]) -> Iterator[list[tuple[Decimal, str]]]:
        """(price, peer id) of those that may take a job and stand behind `after`."""
        return _chunks(self.shelf(channel).by_price, after)

    def named(self, channel: str) -> Iterator[list[str]]:
        return _chunks(self.shelf(channel).by_id, "")


def behind(price: Decimal) -> tuple[Decimal, str]:
    """Behind all of that price."""
    return price, _TOP


def _chunks(ordered: list[Any], after: Any) -> Iterator[list[Any]]:
    while True:
        at = bisect_right(ordered, after)
        chunk = ordered[at : at + _CHUNK]
        if not chunk:
            return
        yield chunk
        after = chunk[-1]
