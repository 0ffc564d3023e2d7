"""The erasure of what this node holds of a person: which keys are to be destroyed, and that it was done.

The person is not named in it: scopes are job ids, and streams of transfers, providers and the device.
"""

from __future__ import annotations

from typing import ClassVar

from dms.domain.aggregate import Aggregate, applies
from dms.domain.event import Event, register

MOST_SCOPES = 10_000  # of one erasure; whoever has more to erase asks again


class Erasure(Aggregate):
    """The key is a UUIDv7."""

    KIND: ClassVar[str] = "erasure"

    @register
    class Requested(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "erasure.requested"
        scopes: tuple[str, ...]

    @register
    class Completed(Event, frozen=True, kw_only=True, gc=False):
        """keys: destroyed. files: outputs, checkpoints and received files that were removed."""

        TOPIC: ClassVar[str] = "erasure.completed"
        keys: int
        files: int

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.scopes: tuple[str, ...] = ()
        self.completed = False

    def request(self, scopes: tuple[str, ...]) -> None:
        self.trigger(self.Requested(scopes=scopes))

    def complete(self, keys: int, files: int) -> None:
        if not self.completed:
            self.trigger(self.Completed(keys=keys, files=files))

    @applies(Requested)
    def _requested(self, event: Requested) -> None:
        self.scopes = event.scopes

    @applies(Completed)
    def _completed(self, _: Completed) -> None:
        self.completed = True
