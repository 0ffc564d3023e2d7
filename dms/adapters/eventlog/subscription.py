"""Following a recorder as programs built on the eventsourcing library do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue

from eventsourcing.persistence import ApplicationRecorder, Notification, Subscription


class WakingRecorder(ApplicationRecorder):
    """One that puts a token into each of its `listeners` after every commit."""

    listeners: list[SimpleQueue[None]]


class BlockingSubscription(Subscription[WakingRecorder]):
    """The library's own kind of subscription: a blocking iterator, for programs built on it."""

    _BATCH = 500

    def __init__(self, recorder: WakingRecorder, gt: int | None, topics: Sequence[str]) -> None:
        super().__init__(recorder, gt, topics)
        self._position = gt or 0
        self._buffer: Iterator[Notification] = iter(())
        self._changed: SimpleQueue[None] = SimpleQueue()
        recorder.listeners.append(self._changed)

    def stop(self) -> None:
        super().stop()
        if self._changed in self._recorder.listeners:
            self._recorder.listeners.remove(self._changed)
        self._changed.put(None)

    def __next__(self) -> Notification:
        while not self._has_been_stopped:
            for notification in self._buffer:
                self._position = notification.id
                return notification
            self._forget_wakes()
            batch = self._recorder.select_notifications(
                self._position, self._BATCH, topics=self._topics, inclusive_of_start=False
            )
            self._buffer = iter(batch)
            if not batch:
                self._changed.get()
        raise StopIteration

    def _forget_wakes(self) -> None:
        """What was committed before the next read is in that read: its wake-ups say nothing new."""
        while not self._has_been_stopped:
            try:
                self._changed.get_nowait()
            except Empty:
                return
