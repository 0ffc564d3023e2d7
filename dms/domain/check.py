"""One line of what a DMS finds about its own machine."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct


class CheckState(StrEnum):
    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Check(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """found: what there is. advice: what to do about it; empty for nothing. required: peers' jobs are not taken while
    it fails."""

    name: str
    state: str  # a CheckState
    found: str
    advice: str = ""
    required: bool = False

    @property
    def breaks(self) -> bool:
        """Whether no job of a peer may be taken for it."""
        return self.required and self.state == CheckState.FAILED


_ORDER = (CheckState.FAILED, CheckState.WARNING, CheckState.UNKNOWN, CheckState.PASSED)


def worst(checks: Iterable[Check]) -> CheckState:
    """Of no checks nothing is known."""
    found = {check.state for check in checks}
    return next((state for state in _ORDER if state in found), CheckState.UNKNOWN)
