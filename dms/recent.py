"""A bounded memory of what was used last."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")


class Recent(OrderedDict[K, V]):
    """A dict of at most so many items: `get` and setting one count as its use, and the one unused for longest goes.
    Without a bound it only keeps that order, the one unused for longest first; then whoever has it takes items out."""

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        self._most = most

    @overload  # type: ignore[override]  # nobody wants a default of another type
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: V) -> V: ...
    def get(self, key: K, default: V | None = None) -> V | None:
        if key not in self:
            return default
        self.move_to_end(key)
        return self[key]

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if self._most is not None and len(self) > self._most:
            self.popitem(last=False)
