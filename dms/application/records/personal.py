"""What of an event tells of a person."""

from __future__ import annotations

from typing import Any

import msgspec

from dms.domain.event import Recorded
from dms.domain.sealing import take_out, texts


def personal_texts(recorded: Recorded) -> list[str]:
    """Its personal texts, as far as their key is there."""
    event = recorded.event
    body: dict[str, Any] = msgspec.to_builtins(event)
    return list(texts(take_out(body, type(event).PERSONAL)))
