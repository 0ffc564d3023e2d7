"""What peers say to each other: the bodies of our protocols, as JSON. Sizes are bounded by the frames, values by
`domain/bounds.py`, which everything here is read through."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from dms.application.growing_lines import GrowingLine
from dms.application.ports.outputs import LogLine
from dms.domain.bounds import Unreadable, read
from dms.domain.chain import SignedRecord
from dms.domain.checkpoint import ResumeFrom
from dms.domain.directory import SignedAdvertisement
from dms.domain.heads import Countersignature, SignedHead
from dms.domain.request import ServiceRequest
from dms.domain.transfer import TransferState
from dms.errors import InvalidInput, PeerMisbehaved

DEPLOYMENT_REQUEST = "/nunet/dms/depreq/0.1.0"
PREFLIGHT = "/nunet/dms/preflight/0.1.0"
FEED = "/nunet/dms/feed/0.1.0"
CONTROL = "/nunet/dms/control/0.1.0"
CHECKPOINT = "/nunet/dms/checkpoint/0.1.0"
RESULTS = "/nunet/dms/results/0.1.0"
AD_SNAPSHOT = "/nunet/dms/ad-snapshot/0.1.0"
FILE_OFFER = "/nunet/dms/file/offer/0.1.0"
FILE_END = "/nunet/dms/file/end/0.1.0"
AD_TOPIC = "/nunet/dms/ad/0.1.0/"  # then the channel

UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z"
JobId = Annotated[str, Meta(pattern=UUID_PATTERN)]
Position = Annotated[int, Meta(ge=0, le=2**62)]
T = TypeVar("T")


class DeploymentRequest(Struct, frozen=True, kw_only=True):
    """SP to CP. Repeating it with the same job id gives the same answer. channel: the one that the
    asking node is on; empty from a version that does not say it. resume: the checkpoint to go on from, to be
    fetched from the asking node. seal_key: 32 bytes in hex, under which both sides keep what the job's events tell of
    a person (domain/sealing.py), so that each can read the other's records and each can erase its own."""

    job_id: JobId
    request: ServiceRequest
    price: Annotated[str, Meta(max_length=64)]
    traceparent: Annotated[str, Meta(max_length=128)] = ""
    channel: Annotated[str, Meta(max_length=64)] = ""
    resume: ResumeFrom | None = None
    seal_key: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class DeploymentAnswer(Struct, frozen=True, kw_only=True):
    """Accepted: the feed tells the rest. Refused: why. pending: neither yet, the feed tells that too."""

    accepted: bool
    reason: str = ""
    pending: bool = False


class PreflightRequest(Struct, frozen=True, kw_only=True):
    """SP to CP, before anything is paid: can you take this, and keep its place for me? request: as it would be sent to
    be run, without what is secret or tells who pays. hold_seconds: how long; 0: only tell. May be repeated: the place
    that is kept stays as it is."""

    job_id: JobId
    request: ServiceRequest
    price: Annotated[str, Meta(max_length=64)]
    hold_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 0
    traceparent: Annotated[str, Meta(max_length=128)] = ""
    channel: Annotated[str, Meta(max_length=64)] = ""
    resume: ResumeFrom | None = None


class PreflightAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """reason: why it can't take the job, or why it keeps no place for it. kind: what the reason is about (see
    `Refusal`); fault: whose it is (a `Fault`); field: JSON pointer of what is wrong in the request. hold_seconds: how
    long from now the place is kept. image_present: no need to fetch it. image_digest: of its manifest."""

    possible: bool
    reason: Annotated[str, Meta(max_length=1024)] = ""
    kind: Annotated[str, Meta(max_length=32)] = ""
    fault: Annotated[str, Meta(max_length=32)] = ""
    field: Annotated[str, Meta(max_length=128)] = ""
    hold_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 0
    image_present: bool = False
    image_digest: Annotated[str, Meta(max_length=128)] = ""


class FeedRequest(Struct, frozen=True, kw_only=True):
    """after: the newest version of the deployment that is known; log_after: the newest line. growing: lines that have
    no end yet are wanted, too."""

    job_id: JobId
    after: Position = 0
    log_after: Position = 0
    growing: bool = False


class FeedItem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Either records of the deployment in order, or lines of its output in order, or what is shown of lines that have
    no end yet."""

    records: tuple[SignedRecord, ...] = ()
    lines: tuple[LogLine, ...] = ()
    growing: Annotated[tuple[GrowingLine, ...], Meta(max_length=2)] = ()


class Terminate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """revoked: the job has gone on elsewhere since its provider was lost, so nothing is earned here."""

    job_id: JobId
    reason: Annotated[str, Meta(max_length=1024)]
    revoked: bool = False


class ResultsNote(Struct, frozen=True, kw_only=True):
    """SP to CP: it has the job's results. sha256: of their archive, hex."""

    job_id: JobId
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class ResultsNoted(Struct, frozen=True, kw_only=True):
    """known: whether these are the ones that the provider gave."""

    known: bool = False


class CheckpointNote(Struct, frozen=True, kw_only=True):
    """SP to CP: the checkpoint with this digest is here. May be repeated."""

    job_id: JobId
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class CheckpointNoted(Struct, frozen=True, kw_only=True):
    """newest: whether it is the newest one."""

    newest: bool


class TerminateAnswer(Struct, frozen=True, kw_only=True):
    stopping: bool


class HeadShown(Struct, frozen=True, kw_only=True):
    """To a peer that we work with on a job: our newest head, to be countersigned. May be repeated. It shares no
    field with `Terminate`, for which an older peer would take it."""

    head: SignedHead
    shared_job: JobId


class HeadWitnessed(Struct, frozen=True, kw_only=True):
    countersignature: Countersignature


class SnapshotRequest(Struct, frozen=True, kw_only=True):
    """after: the last peer id of the page before. own: only what the one who is asked says of itself."""

    after: Annotated[str, Meta(max_length=128)] = ""
    own: bool = False


class Snapshot(Struct, frozen=True, kw_only=True):
    """A page of the table of advertisements, by peer id; more: there is another page."""

    advertisements: tuple[SignedAdvertisement, ...]
    more: bool = False


class FileOffer(Struct, frozen=True, kw_only=True):
    """Sender to receiver. Repeating it asks what became of it."""

    transfer_id: JobId
    name: Annotated[str, Meta(min_length=1, max_length=1024)]
    size_bytes: Annotated[int, Meta(ge=0, le=2**50)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class FileOfferAnswer(Struct, frozen=True, kw_only=True):
    """state: a TransferState."""

    state: TransferState
    reason: Annotated[str, Meta(max_length=1024)] = ""


class FileEnd(Struct, frozen=True, kw_only=True):
    """To the other side: it is over here. Sent once; who misses it learns by asking."""

    transfer_id: JobId
    state: TransferState
    reason: Annotated[str, Meta(max_length=1024)] = ""


encode = msgspec.json.encode


def decode_request(body: bytes, message_type: type[T]) -> T:
    """Of a peer that asks us. Raises InvalidInput, which it gets as the answer."""
    try:
        return read(body, message_type)
    except Unreadable as error:
        raise InvalidInput(f"message can't be read: {error}") from error


def decode_answer(peer_id: str, body: bytes, message_type: type[T]) -> T:
    """Of a peer that we asked. Raises PeerMisbehaved."""
    try:
        return read(body, message_type)
    except Unreadable as error:
        raise PeerMisbehaved(f"{peer_id} sent an answer that can't be read: {error}") from error
