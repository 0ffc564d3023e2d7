"""A file that a user gives to a peer: the same id on both sides, each side with events of its own.

The log keeps the name, the size and the digest, never the content.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

from dms.domain.aggregate import Aggregate, applies
from dms.domain.event import Event, Upcaster, register, unchanged
from dms.domain.rules import Rules
from dms.domain.run_time import Instant, RunTime
from dms.domain.sealing import ERASED
from dms.errors import Conflict

LIFETIME_US = 7 * 24 * 3600 * 1_000_000  # without an end
MAX_NAME_BYTES = 200  # below the 255 of file systems: a number and `.part` must fit behind it


class Direction(StrEnum):
    OUT = "out"
    IN = "in"


class TransferState(StrEnum):
    OFFERED = "offered"  # the receiver has not decided
    ACCEPTED = "accepted"  # bytes go over, or will as soon as both are there
    COMPLETED = "completed"  # whole and checked at the receiver
    FAILED = "failed"
    CANCELLED = "cancelled"  # by either user, or nobody decided in time


OPEN_STATES = (TransferState.OFFERED, TransferState.ACCEPTED)


class Transfer(Aggregate):
    """The key is the transfer's id, a UUIDv7 that the sender made."""

    KIND: ClassVar[str] = "transfer"

    @register
    class Offered(Event, frozen=True, kw_only=True, gc=False):
        """name: a plain file name. source: the file's path at the sender, empty at the receiver.
        offered_at: Unix time in microseconds, of this node. offered_boot_us: the same moment by its boot clock, of the
        boot that boot_id names; empty in what older versions wrote."""

        TOPIC: ClassVar[str] = "transfer.offered"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"peer_id": ERASED, "name": ERASED, "source": ERASED}
        direction: str
        peer_id: str
        name: str
        size_bytes: int
        sha256: str
        offered_at: int
        source: str = ""
        boot_id: str = ""
        offered_boot_us: int = 0

    @register
    class Accepted(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "transfer.accepted"

    @register
    class Completed(Event, frozen=True, kw_only=True, gc=False):
        """saved_as: the file's name at the receiver; empty at the sender."""

        TOPIC: ClassVar[str] = "transfer.completed"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"saved_as": ERASED}
        saved_as: str = ""

    @register
    class Failed(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "transfer.failed"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str

    @register
    class Cancelled(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "transfer.cancelled"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str

    RULES: ClassVar[Rules[TransferState | None]] = Rules(
        None,  # nothing recorded yet
        {
            None: {Offered: TransferState.OFFERED},
            TransferState.OFFERED: {
                Accepted: TransferState.ACCEPTED,
                Failed: TransferState.FAILED,
                Cancelled: TransferState.CANCELLED,
            },
            TransferState.ACCEPTED: {
                Completed: TransferState.COMPLETED,
                Failed: TransferState.FAILED,
                Cancelled: TransferState.CANCELLED,
            },
            TransferState.COMPLETED: {},
            TransferState.FAILED: {},
            TransferState.CANCELLED: {},
        },
        {},
    )

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.direction = Direction.IN
        self.peer_id = self.name = self.sha256 = self.source = self.saved_as = self.reason = ""
        self.size_bytes = 0
        self.offered = Instant("", 0, 0)

    @property
    def state(self) -> TransferState:
        state: TransferState = self.life.state
        return state

    @property
    def offered_at(self) -> int:
        """Unix time in microseconds."""
        return self.offered.wall_us

    @property
    def ended(self) -> bool:
        return self.state not in OPEN_STATES

    @property
    def waits(self) -> bool:
        """For this node's user to accept it."""
        return self.direction is Direction.IN and self.state is TransferState.OFFERED

    def is_late(self, now: Instant) -> bool:
        """Whether it should have come to an end long ago."""
        return RunTime(self.offered, LIFETIME_US).is_over(now)

    def offer(
        self,
        direction: Direction,
        peer_id: str,
        name: str,
        size_bytes: int,
        sha256: str,
        now: Instant,
        source: str = "",
    ) -> None:
        """Once: raises OutOfOrder afterwards."""
        self.trigger(
            self.Offered(
                direction=direction,
                peer_id=peer_id,
                name=plain_name(name),
                size_bytes=size_bytes,
                sha256=sha256,
                offered_at=now.wall_us,
                source=source,
                boot_id=now.boot_id,
                offered_boot_us=now.boot_us,
            )
        )

    def accept(self) -> None:
        """Again is fine. Raises Conflict when it is over."""
        if self.state is TransferState.OFFERED:
            self.trigger(self.Accepted())
        elif self.ended:
            raise Conflict(f"transfer {self.key} is over: {self.state}")

    def complete(self, saved_as: str = "") -> None:
        """The peer may tell of the end before we heard that it began. Again is fine."""
        if not self.ended:
            self.accept()
            self.trigger(self.Completed(saved_as=saved_as))

    def fail(self, reason: str) -> None:
        if not self.ended:
            self.trigger(self.Failed(reason=reason[:1024]))

    def cancel(self, reason: str) -> None:
        if not self.ended:
            self.trigger(self.Cancelled(reason=reason[:1024]))

    @applies(Offered)
    def _offered(self, event: Offered) -> None:
        self.direction, self.peer_id = Direction(event.direction), event.peer_id
        self.name, self.size_bytes, self.sha256 = event.name, event.size_bytes, event.sha256
        self.source = event.source
        self.offered = Instant(event.boot_id, event.offered_boot_us, event.offered_at)

    @applies(Completed)
    def _completed(self, event: Completed) -> None:
        self.saved_as = event.saved_as

    @applies(Failed)
    def _failed(self, event: Failed) -> None:
        self.reason = event.reason

    @applies(Cancelled)
    def _cancelled(self, event: Cancelled) -> None:
        self.reason = event.reason


def plain_name(name: str) -> str:
    """A file name that is safe to make: no folders of any system, no control or invisible characters, no dot at
    its beginning, at most MAX_NAME_BYTES of UTF-8 with its suffix kept; `file` when nothing is left."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    shown = "".join(c for c in unicodedata.normalize("NFC", last) if unicodedata.category(c)[0] != "C")
    trimmed = shown.strip().lstrip(".").strip()
    if not trimmed:
        return "file"
    stem, dot, suffix = trimmed.rpartition(".")
    tail = dot + suffix if stem and len(suffix.encode()) <= 20 else ""
    head = trimmed.removesuffix(tail) if tail else trimmed
    room = MAX_NAME_BYTES - len(tail.encode())
    return head.encode()[:room].decode(errors="ignore") + tail


def numbered(name: str, number: int) -> str:
    """The name's number-th choice: `a.txt`, `a (1).txt`, `a (2).txt`."""
    if not number:
        return name
    stem, dot, suffix = name.rpartition(".")
    return f"{stem} ({number}){dot}{suffix}" if stem else f"{name} ({number})"
