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
    """found: what there is. advice: what to do about it; empty if there is nothing to do. required: no peer's job is
    taken while it fails."""

    name: str
    state: str  # a CheckState
    found: str
    advice: str = ""
    required: bool = False

    @property
    def breaks(self) -> bool:
        """Whether no peer's job may be taken because of it."""
        return self.required and self.state == CheckState.FAILED


_ORDER = (CheckState.FAILED, CheckState.WARNING, CheckState.UNKNOWN, CheckState.PASSED)


def worst(checks: Iterable[Check]) -> CheckState:
    """UNKNOWN where there are no checks."""
    found = {check.state for check in checks}
    return next((state for state in _ORDER if state in found), CheckState.UNKNOWN)
