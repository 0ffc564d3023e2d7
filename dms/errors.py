"""Every error this program raises on purpose.

DmsError
├── InvalidInput          the caller sent something we can't take (HTTP 400)
├── Forbidden             known, but not allowed (403)
├── NotFound              no such thing (404)
│   └── NoProviderMatches no compute provider fits the request; says why for each (404)
├── Gone                  it was there, and was archived (410)
├── TooMany               the caller has its share already; fewer, or later (429)
├── Conflict              not in this state (409)
│   └── OutOfOrder        an event can't follow what came before: a peer's misbehaviour, or a command too late
├── Unavailable           something we need is away; try again (503)
│   ├── PeerUnreachable   the peer can't be dialled or does not answer
│   │   └── PeerSlow      it is connected, and does not answer in time
│   ├── ExecutorUnavailable  the container engine is away
│   │   └── ExecutorBroken    the driver of the engine met what nobody thought of: our fault, may pass
│   ├── PeerFailed        the peer is there, and failed at it by an error of its own, which may pass (502)
│   ├── Busy              as much of that is done at once as may be; in a moment it is another's turn
│   ├── LogUnavailable    the event log can't be written
│   │   └── OutputUnavailable  a job's output can't be read or written here
│   ├── ArchiveUnreadable  a segment file of the archive is missing or damaged; names file and positions
│   └── DiskTrouble       this machine's disk takes nothing else just now: it is full or broken
├── ExecutionError        the job can't be run as asked; the reason is for its owner
│   ├── ImageUnavailable  the image can't be had, or is not allowed
│   │   ├── RegistryUnavailable  its registry can't be reached or is in trouble: nobody's fault here
│   │   └── NoRoomForImage    this machine's disk is full: the provider's fault
│   ├── GpuUnavailable    the engine can't give a container the GPU: the provider's fault
│   ├── NetworkUnavailable  a job can't be given its network, or has lost it: the provider's fault
│   ├── ArchiveRefused    a checkpoint is not what may be packed or unpacked, or too large
│   ├── InputRefused      an input can't be had as it was asked for: another digest, not there, too large
│   ├── InputUnavailable  an input did not come in time: nobody's fault here
│   └── NoPlaceForInput   this machine can't store what a job begins with, or give it to the job: the provider's fault
├── PeerMisbehaved        the peer broke the protocol (bad frame, bad signature)
│   └── ProtocolRefused   it is there, but does not speak the protocol: mostly an older version
├── AlreadyRunning        another process owns the data folder
├── LogCorrupt            the stored history does not verify; names the position
└── ConfigError           the configuration can't be used; says file, line, column
    └── AddressUnavailable  a configured address can't be listened on now: another program has it, or nobody yet
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple


class DmsError(Exception):
    """The message is a sentence for the user: what was wrong, what was expected, what to do."""


class InvalidInput(DmsError):
    """problems: (JSON pointer, what is wrong there), in the order found."""

    def __init__(self, message: str, problems: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class Forbidden(DmsError):
    pass


class NotFound(DmsError):
    pass


class NoProviderMatches(NotFound):
    """refusals: peer id -> the reason why it can't take the job (a bounded sample)."""

    def __init__(self, message: str, refusals: Mapping[str, str]) -> None:
        super().__init__(message)
        self.refusals = dict(refusals)


class Gone(DmsError):
    """first: the first position that is still there."""

    def __init__(self, message: str, first: int) -> None:
        super().__init__(message)
        self.first = first


class TooMany(DmsError):
    """retry_after_seconds: until one more is taken; 0 where only fewer at once help."""

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Conflict(DmsError):
    pass


class OutOfOrder(Conflict):
    pass


class Outdated(Conflict):
    """What was to be changed is not what the caller knew any more."""


class Unavailable(DmsError):
    pass


class PeerUnreachable(Unavailable):
    pass


class PeerSlow(PeerUnreachable):
    pass


class PeerFailed(Unavailable):
    pass


class ExecutorUnavailable(Unavailable):
    pass


class ExecutorBroken(ExecutorUnavailable):
    pass


class Busy(Unavailable):
    pass


class LogUnavailable(Unavailable):
    pass


class OutputUnavailable(LogUnavailable):
    pass


class ArchiveUnreadable(Unavailable):
    """No damage of the log: archived files may lie elsewhere for a while, and what is recorded now needs none."""


class DiskTrouble(Unavailable):
    """No peer's fault, and no reason to ask it again."""


class ExecutionError(DmsError):
    pass


class ImageUnavailable(ExecutionError):
    pass


class RegistryUnavailable(ImageUnavailable):
    pass


class NoRoomForImage(ImageUnavailable):
    pass


class GpuUnavailable(ExecutionError):
    pass


class NetworkUnavailable(ExecutionError):
    pass


class ArchiveRefused(ExecutionError):
    pass


class InputRefused(ExecutionError):
    pass


class InputUnavailable(ExecutionError):
    pass


class NoPlaceForInput(ExecutionError):
    pass


class PeerMisbehaved(DmsError):
    pass


class ProtocolRefused(PeerMisbehaved):
    pass


class AlreadyRunning(DmsError):
    pass


class LogCorrupt(DmsError):
    pass


class ConfigError(DmsError):
    pass


class AddressUnavailable(ConfigError):
    pass


# --- how each is told to others ------------------------------------------------------------------
class Exit(IntEnum):
    """Of the `nunet` command (docs/command-line.md). `job run --wait` answers with the container's own code."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    DENIED = 4
    CONFLICT = 5
    NOT_PLACED = 6
    UNREACHABLE = 7
    DAMAGED = 8
    TIMED_OUT = 124
    NOT_STARTED = 125
    INTERRUPTED = 130
    NOT_READ = 141


class Told(NamedTuple):
    """status: HTTP's. peer_word: to peers; empty for one that tells them no more than that it failed. exit_code: of a
    command that fails with it, be it here or by the answer of a daemon."""

    kind: type[DmsError]
    status: int
    peer_word: str = ""
    exit_code: Exit = Exit.FAILURE


FAILED = "failed"  # a peer's word for all that has none of its own

TOLD = (  # the first that fits counts
    Told(InvalidInput, 400, "invalid"),
    Told(Forbidden, 403, "forbidden", Exit.DENIED),
    Told(NotFound, 404, "not_found", Exit.NOT_FOUND),
    Told(Outdated, 412, "", Exit.CONFLICT),
    Told(Conflict, 409, "conflict", Exit.CONFLICT),
    Told(Gone, 410, "", Exit.NOT_FOUND),
    Told(TooMany, 429),
    Told(ExecutionError, 422),
    Told(PeerMisbehaved, 502),
    Told(PeerFailed, 502, FAILED),
    Told(Unavailable, 503, "unavailable"),
    Told(AlreadyRunning, 503, "", Exit.CONFLICT),
    Told(LogCorrupt, 503),
    Told(ConfigError, 500, "", Exit.USAGE),
    Told(DmsError, 500),
)


def told(error: DmsError) -> Told:
    return next(row for row in TOLD if isinstance(error, row.kind))


def exit_code_of(status: int) -> Exit:
    """Of a command that a daemon answered with that HTTP status."""
    if status == 401:
        return Exit.DENIED
    return next((row.exit_code for row in TOLD if row.status == status < 500), Exit.FAILURE)


def from_peer(word: str, message: str) -> DmsError:
    """What a peer said; PeerMisbehaved when it has no such word."""
    kind = next((row.kind for row in TOLD if word and row.peer_word == word), PeerMisbehaved)
    return kind(message)
