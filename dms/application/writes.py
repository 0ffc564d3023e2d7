"""Which stores beside the log could not be written when they last tried: their callers try again, and meanwhile who
asks whether the DMS is ready is told."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class Writes:
    """For any thread."""

    def __init__(self) -> None:
        self._failed: dict[str, str] = {}

    def failed(self, what: str, why: str) -> None:
        """what: "output of jobs". Logged once, until it works again."""
        if what not in self._failed:
            log.error("%s can't be written: %s", what, why, extra={"action": "store_not_written", "store": what})
        self._failed[what] = why

    def worked(self, what: str) -> None:
        if self._failed.pop(what, None) is not None:
            log.warning("%s can be written again", what, extra={"action": "store_written_again", "store": what})

    @property
    def troubles(self) -> list[str]:
        return [f"{what} can't be written: {why}" for what, why in list(self._failed.items())]
