"""Following the engine's pull of an image: how far it is, and when it has to be given up."""

from __future__ import annotations

import time
from typing import Any

from dms.adapters.executors.images import ImageReference
from dms.adapters.executors.profile import MIB
from dms.errors import ImageUnavailable


class Pull:
    """How far a pull is: a thread writes it, the loop reads it. Bytes of each layer."""

    def __init__(self) -> None:
        self.total: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self.abandoned = False

    def take(self, message: dict[str, Any]) -> None:
        layer, detail = str(message.get("id", "")), message.get("progressDetail") or {}
        if total := detail.get("total"):
            self.total[layer] = max(total, self.total.get(layer, 0))
        if message.get("status") == "Downloading":
            self._done[layer] = int(detail.get("current") or 0)
        elif message.get("status") in {"Download complete", "Pull complete"} and layer in self.total:
            self._done[layer] = self.total[layer]

    def megabytes(self) -> tuple[int, int]:
        """(done, of what was announced so far)"""
        return sum(list(self._done.values())) // MIB, sum(list(self.total.values())) // MIB


def watch(progress: Any, reference: ImageReference, deadline: float, max_image_mb: int, state: Pull) -> None:
    """Raises ImageUnavailable on the engine's refusal, too many bytes or too much time, or when nobody wants it
    any more. Leaving the stream closes it, and that ends the pull in the engine."""
    for message in progress:
        if "error" in message:
            raise ImageUnavailable(f"image {reference} can't be pulled: {message['error']}")
        if state.abandoned:
            raise ImageUnavailable(f"the pull of image {reference} was given up")
        if time.monotonic() > deadline:
            raise ImageUnavailable(f"image {reference} can't be pulled in time")
        state.take(message)
        if sum(state.total.values()) > max_image_mb * MIB:
            raise ImageUnavailable(f"image {reference} is larger than {max_image_mb} MiB")
