"""The output of an attempt that is followed, as it is kept here.

A disk of ours that takes or gives none of it is no reason to lose sight of the job, nor the provider's fault. After a
while the job is followed without its lines; they are asked for again now and then, and at its end at the latest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from dms.application.lasting import Lasting
from dms.application.ports.outputs import LogLine, OutputStore
from dms.domain.deployment import Deployment
from dms.errors import OutputUnavailable, PeerMisbehaved, PeerUnreachable

log = logging.getLogger(__name__)

TROUBLE_SECONDS = 60.0  # until a job is followed without its lines
AGAIN_SECONDS = 60.0  # so long, until they are asked for again
NO_LINES = 2**62  # the last position that a peer takes: behind it nothing comes


class FollowedOutput:
    """output: the id that it is stored under."""

    def __init__(self, outputs: OutputStore, output: str) -> None:
        self._outputs, self.output = outputs, output
        self._trouble = Lasting()
        self._fetched_anew = False
        self._kept = True
        self._again_at = 0.0

    async def last(self) -> int:
        """The line behind which the provider is to go on. Raises LogUnavailable."""
        return await self._outputs.last(self.output) if self._kept else NO_LINES

    @property
    def to_be_tried_again(self) -> bool:
        """Whether it has been followed without its lines for long enough."""
        return not self._kept and asyncio.get_running_loop().time() >= self._again_at

    async def take(self, lines: Sequence[LogLine]) -> None:
        """Raises PeerMisbehaved, LogUnavailable."""
        if lines and self._kept:
            await self._outputs.extend(self.output, lines)
            self._trouble.forget(self.output)

    def failed(self, error: OutputUnavailable) -> None:
        """Decides whether it is followed without its lines next."""
        self._kept = not self._trouble.has_lasted(self.output, TROUBLE_SECONDS)
        self._again_at = asyncio.get_running_loop().time() + AGAIN_SECONDS
        how = "is tried again" if self._kept else "is followed without"
        log.warning("the output of job %s can't be kept here, and %s: %s", self.output, how, error)

    def try_again(self) -> None:
        self._kept = True

    async def check(self, claimed: Deployment.LogSealed) -> None:
        """What is held must be what the provider sealed. When it is not, it is fetched anew, once. Raises
        PeerMisbehaved, PeerUnreachable, LogUnavailable."""
        try:
            ours = await self._outputs.seal(self.output)
        except OutputUnavailable:
            if self._kept:
                raise
            return
        if ours.truncated and not claimed.truncated:
            return  # our own limit is lower than the provider's
        if (ours.lines, ours.sha256) == (claimed.lines, claimed.sha256):
            return
        if self._fetched_anew:
            if self._kept:
                raise PeerMisbehaved("the output does not match what it sealed")
            return
        self._fetched_anew = True
        if self._kept:
            await self._outputs.drop(self.output)
        raise PeerUnreachable(f"the output of job {self.output} differs from what was sealed; it is fetched anew")
