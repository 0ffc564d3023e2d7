"""Cuts a command off where it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Watched(Generic[T]):
    """Awaits a coroutine and counts how often it waits. cut: at which wait its task is cancelled, from 1 on; 0: never.
    late: not when the wait begins, but when what was waited for is there and not told yet."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], cut: int = 0, *, late: bool = False) -> None:
        self._coroutine, self._cut, self._late = coroutine, cut, late
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, T]:
        thrown: BaseException | None = None
        while True:
            try:
                waited_for = self._coroutine.send(None) if thrown is None else self._coroutine.throw(thrown)
            except StopIteration as done:
                result: T = done.value
                return result
            self.waits += 1
            thrown = None
            if self.waits == self._cut and not self._late:
                self._cancel()
            try:
                yield waited_for
            except BaseException as error:  # noqa: BLE001  it belongs to the coroutine
                thrown = error
            if self.waits == self._cut and self._late and thrown is None:
                thrown = asyncio.CancelledError()

    def _cancel(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()


async def cut_off(coroutine: Coroutine[Any, Any, Any], at: int, *, late: bool = False) -> bool:
    """Whether it was cancelled there; not when it ended before."""
    task = asyncio.create_task(_run(Watched(coroutine, at, late=late)))
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return task.cancelled()


async def _run(watched: Watched[T]) -> T:
    return await watched
