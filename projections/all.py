"""All the read models."""

from __future__ import annotations

from typing import Any

from projections.base import Projection
from projections.capacity import Capacity
from projections.checkpoints import Checkpoints
from projections.device import DeviceView
from projections.erasures import Erasures
from projections.jobs import Jobs
from projections.results import Results
from projections.tokens import Tokens
from projections.transactions import Transactions
from projections.transfers import Transfers


def all_projections() -> list[Projection[Any]]:
    return [
        Jobs(), Capacity(), DeviceView(), Transfers(), Transactions(), Checkpoints(), Results(), Erasures(), Tokens(),
    ]  # fmt: skip
