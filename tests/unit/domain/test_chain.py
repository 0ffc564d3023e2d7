"""Links of the chain and signed records: byte for byte, since other nodes compute them too."""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import sha256

import msgspec
import pytest

from dms.domain.chain import GENESIS, SignedRecord, check_record, id_bytes, id_text, link, record_hash
from dms.domain.deployment import Deployment
from dms.errors import PeerMisbehaved
from tests.fixtures.histories import Author

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
AUTHOR = Author()
RECORD = AUTHOR.record(ID, Deployment.ImagePulled(digest="sha256:0"))


def test_a_link_is_this_digest() -> None:
    header = struct.pack(">QQIQ6I", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    parts = (b"s" * 5, b"t" * 6, b"c" * 7, b"d" * 8, b"p" * 9, b"x" * 10)
    expected = sha256(b"\1" * 32 + header + b"e" * 16 + b"".join(parts)).digest()
    stream, topic, correlation, causation, traceparent, data = parts
    assert link(b"\1" * 32, 1, stream, 2, topic, 3, 4, b"e" * 16, correlation, causation, traceparent, data) == expected


def test_ids_are_sixteen_bytes_or_none() -> None:
    assert id_bytes(ID) == bytes.fromhex(ID.replace("-", ""))
    assert id_text(id_bytes(ID)) == ID
    assert (id_bytes(""), id_text(b"")) == (b"", "")


def test_a_record_has_the_link_behind_its_own_previous_or_another() -> None:
    assert record_hash(RECORD, "here").hex() == RECORD.hash
    other = record_hash(RECORD, "here", b"\1" * 32)
    assert other != record_hash(RECORD, "here")
    assert other == record_hash(msgspec.structs.replace(RECORD, previous="01" * 32), "here")
    assert record_hash(msgspec.structs.replace(RECORD, previous="01" * 32), "here", GENESIS).hex() == RECORD.hash


@pytest.mark.parametrize(
    "changes",
    [
        {"position": -1},
        {"version": 2**64},
        {"schema_version": 2**32},
        {"time": -1},
        {"event_id": "no hex"},
        {"correlation_id": "no hex"},
        {"causation_id": "no hex"},
        {"previous": "no hex"},
        {"stream": "\ud800"},
        {"traceparent": "\ud800"},
    ],
)
def test_a_malformed_record_is_told_with_its_place(changes: dict[str, object]) -> None:
    with pytest.raises(PeerMisbehaved, match=r"^line 7: malformed record: "):
        record_hash(msgspec.structs.replace(RECORD, **changes), "line 7")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"hash": "00" * 32}, f"^12D3peer sent deployment-{ID} version 1 with a hash not its own$"),
        ({"data": "{}"}, f"^12D3peer sent deployment-{ID} version 1 with a hash not its own$"),
        ({"signature": "no hex"}, "^12D3peer sent a malformed record: non-hexadecimal"),
        ({"event_id": "no hex"}, "^12D3peer: malformed record: "),
        ({"signature": "00" * 64}, f"^12D3peer sent deployment-{ID} version 1 without its signature$"),
    ],
)
def test_a_record_that_is_not_the_peers_is_told_as_such(changes: dict[str, object], told: str) -> None:
    with pytest.raises(PeerMisbehaved, match=told):
        check_record(msgspec.structs.replace(RECORD, **changes), "12D3peer", signed_by(RECORD))


def test_what_is_verified_is_the_peers_signature_of_the_link() -> None:
    check_record(RECORD, "12D3peer", signed_by(RECORD))


def signed_by(record: SignedRecord) -> Callable[[str, bytes, bytes], bool]:
    """Takes that record's signature of that peer, and nothing else."""
    known = ("12D3peer", bytes.fromhex(record.hash), bytes.fromhex(record.signature))
    return lambda *given: given == known
