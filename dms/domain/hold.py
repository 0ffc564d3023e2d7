"""A place that a provider keeps for a job which was quoted and is not paid yet. Its key is the job's id.

Who asked is kept as a pseudonym, which only this node can make: nothing in it tells of a person.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from dms.domain.aggregate import Aggregate, applies
from dms.domain.event import Event, register
from dms.domain.resources import Resources
from dms.domain.rules import Rules

PAID, EXPIRED, YIELDED = "its job was asked for", "not paid in time", "a paid job took its place"


class HoldState(StrEnum):
    NEW = "new"  # nothing recorded yet
    HELD = "held"
    OVER = "over"  # taken by its job, run out, or given to a paid one


class Hold(Aggregate):
    KIND: ClassVar[str] = "hold"

    @register
    class Placed(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "hold.placed"
        asker: str  # a pseudonym of the peer that asked
        reserved: Resources
        gpu_uuids: tuple[str, ...] = ()
        gpus_shared: bool = False
        expires_at: int  # Unix time in microseconds

    @register
    class Ended(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "hold.ended"
        reason: str  # one of ours, above

    RULES: ClassVar[Rules[HoldState]] = Rules(
        HoldState.NEW,
        {
            HoldState.NEW: {Placed: HoldState.HELD},
            HoldState.HELD: {Ended: HoldState.OVER},
            HoldState.OVER: {Placed: HoldState.HELD},  # asked for once more
        },
        {},
    )

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.asker = ""
        self.reserved = Resources()
        self.gpu_uuids: tuple[str, ...] = ()
        self.gpus_shared = False
        self.expires_at = 0

    @property
    def correlation_id(self) -> str:
        return self.key

    @property
    def held(self) -> bool:
        return self.life.state is HoldState.HELD

    def place(
        self, asker: str, reserved: Resources, gpu_uuids: tuple[str, ...], expires_at: int, *, gpus_shared: bool
    ) -> None:
        self.trigger(
            self.Placed(
                asker=asker, reserved=reserved, gpu_uuids=gpu_uuids, gpus_shared=gpus_shared, expires_at=expires_at
            )
        )

    def end(self, reason: str) -> bool:
        """Whether that is news."""
        if not self.held:
            return False
        self.trigger(self.Ended(reason=reason))
        return True

    @applies(Placed)
    def _placed(self, event: Placed) -> None:
        self.asker, self.reserved, self.gpu_uuids = event.asker, event.reserved, event.gpu_uuids
        self.gpus_shared, self.expires_at = event.gpus_shared, event.expires_at
