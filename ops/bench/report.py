"""What a benchmark says."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """ratio: ours to the reference, median over the rounds; what it should be, `target` says."""

    name: str
    reference: str
    ours: str
    ratio: float
    target: str
