"""All objects of a kind that one run of trio has, for bounds that they share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar
from weakref import WeakSet

from trio.lowlevel import RunVar

T = TypeVar("T")


class InRun(Generic[T]):
    """Nobody is kept alive by being here. Called in trio only: another run, in another thread, has others."""

    def __init__(self, name: str) -> None:
        self._all: RunVar[WeakSet[T]] = RunVar(name)

    def add(self, one: T) -> None:
        self._here().add(one)

    def __iter__(self) -> Iterator[T]:
        return iter(self._here())

    def _here(self) -> WeakSet[T]:
        try:
            return self._all.get()
        except LookupError:
            here = WeakSet[T]()
            self._all.set(here)
            return here
