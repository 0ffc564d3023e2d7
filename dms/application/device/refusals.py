"""What was refused to peers of late, for the owner: also what is no event, as a question before any payment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from msgspec import Struct
from msgspec.structs import replace

from dms.application.device.device import DeviceService
from dms.domain.device_policy import PEER_DENIED
from dms.errors import Forbidden
from dms.recent import Recent

LONGEST_REASON = 1000  # characters, of what a peer is told too
MOST_KEPT = 200  # strangers can make us remember so many


class RefusedLately(Struct, frozen=True, kw_only=True, gc=False):
    """The same again is counted. kind: what the reason is about: as of an admission's `Refusal`, or "file", "chat".
    job_id: the newest one's; empty where it is not about a job. Times: Unix µs."""

    peer_id: str
    kind: str
    reason: str
    job_id: str
    count: int
    first_us: int
    last_us: int


class Refusals:
    def __init__(self, now: Callable[[], int]) -> None:
        """now: Unix time in microseconds."""
        self._now = now
        self._kept: Recent[tuple[str, str, str], RefusedLately] = Recent(MOST_KEPT)

    def note(self, peer_id: str, kind: str, reason: str, job_id: str = "") -> None:
        reason = reason[:LONGEST_REASON]
        now, key = self._now(), (peer_id, kind, reason)
        before = self._kept.get(key)
        if before is not None:
            self._kept[key] = replace(before, job_id=job_id, count=before.count + 1, last_us=now)
            return
        self._kept[key] = RefusedLately(
            peer_id=peer_id, kind=kind, reason=reason, job_id=job_id, count=1, first_us=now, last_us=now
        )

    def forget(self, texts: Collection[str]) -> None:
        """All that names one of these peers, jobs or words."""
        for key, one in list(self._kept.items()):
            if any(text in (one.peer_id, one.job_id) or text in one.reason for text in texts):
                del self._kept[key]

    def newest(self) -> Sequence[RefusedLately]:
        """Newest first; none after a restart."""
        return tuple(reversed(self._kept.values()))


class Door:
    """For all that peers want of this node."""

    def __init__(self, device: DeviceService, refusals: Refusals) -> None:
        self._device, self._refusals = device, refusals

    def check(self, peer_id: str, kind: str) -> None:
        """kind: "peer" for a job, "file", "chat". Raises Forbidden when the owner wants nothing of that peer."""
        if self._device.denies(peer_id):
            self._refusals.note(peer_id, kind, PEER_DENIED)
            raise Forbidden(PEER_DENIED)
