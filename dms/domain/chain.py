"""The hash chain over the log, and the signed records cut from it that peers exchange.

hash = sha256(previous hash ‖ lengths and numbers ‖ event id ‖ stream ‖ topic ‖ correlation ‖
causation ‖ traceparent ‖ data). Every length is bound, so no two events share their bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256

from msgspec import Struct

from dms.errors import PeerMisbehaved

GENESIS = bytes(32)  # the link before position 1
MOST = 2**63 - 1  # that a log can hold as a position, version or time
_HEADER = struct.Struct(">QQIQ6I")  # position, version, schema version, time, six lengths


def link(
    previous: bytes,
    position: int,
    stream: bytes,
    version: int,
    topic: bytes,
    schema_version: int,
    time: int,
    event_id: bytes,
    correlation: bytes,
    causation: bytes,
    traceparent: bytes,
    data: bytes,
) -> bytes:
    """The 32-byte link of one event. All ids as stored: 16 bytes, or empty when absent."""
    header = _HEADER.pack(
        position, version, schema_version, time,
        len(stream), len(topic), len(correlation), len(causation), len(traceparent), len(data),
    )  # fmt: skip
    parts = (previous, header, event_id, stream, topic, correlation, causation, traceparent, data)
    return sha256(b"".join(parts)).digest()


class SignedRecord(Struct, frozen=True, kw_only=True):
    """One event as its author's log has it, signed by the author's node key.

    `data` is the stored JSON text, exactly. `previous` and `hash` are the links before and at
    this event (hex); `signature` is over the bytes of `hash` (hex, Ed25519).
    """

    position: int
    stream: str
    version: int
    topic: str
    schema_version: int
    time: int
    event_id: str
    correlation_id: str
    causation_id: str
    traceparent: str
    data: str
    previous: str
    hash: str
    signature: str


@lru_cache(maxsize=8192)  # a job's id is asked for with each of its events
def id_bytes(identifier: str) -> bytes:
    """16 bytes of a UUID text; empty for an absent one."""
    return bytes.fromhex(identifier.replace("-", "")) if identifier else b""


def id_text(identifier: bytes) -> str:
    """The inverse of id_bytes."""
    if not identifier:
        return ""
    digits = identifier.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def record_hash(record: SignedRecord, where: str, previous: bytes | None = None) -> bytes:
    """The link that the record's content gives, behind its own `previous` or another. where: for the error.
    Raises PeerMisbehaved when it is malformed."""
    if max(record.position, record.version, record.time) > MOST:
        raise PeerMisbehaved(f"{where}: malformed record: its position, version or time is beyond {MOST}")
    try:
        return link(
            bytes.fromhex(record.previous) if previous is None else previous, record.position, record.stream.encode(),
            record.version, record.topic.encode(), record.schema_version, record.time, id_bytes(record.event_id),
            id_bytes(record.correlation_id), id_bytes(record.causation_id), record.traceparent.encode(),
            record.data.encode(),
        )  # fmt: skip
    except (ValueError, struct.error) as error:
        raise PeerMisbehaved(f"{where}: malformed record: {error}") from error


def check_record(record: SignedRecord, peer_id: str, verify: Callable[[str, bytes, bytes], bool]) -> None:
    """Raises PeerMisbehaved unless the record's hash is its content's and the peer signed it."""
    expected = record_hash(record, peer_id)
    if expected.hex() != record.hash:
        raise PeerMisbehaved(f"{peer_id} sent {record.stream} version {record.version} with a hash not its own")
    try:
        signature = bytes.fromhex(record.signature)
    except ValueError as error:
        raise PeerMisbehaved(f"{peer_id} sent a malformed record: {error}") from error
    if not verify(peer_id, expected, signature):
        raise PeerMisbehaved(f"{peer_id} sent {record.stream} version {record.version} without its signature")
