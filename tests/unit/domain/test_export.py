"""Exports: each change of one is found, and two sides that tell the same are told apart from those that don't."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

import msgspec
import pytest

from dms.adapters.p2p.identity import Identity, verify_signature
from dms.domain.chain import GENESIS, SignedRecord, record_hash
from dms.domain.event import new_id
from dms.domain.export import Checker, Footer, Header, Writer, footer_statement, head_statement
from dms.errors import LogCorrupt, PeerMisbehaved
from tests.fixtures.histories import START

OWNER = Identity.generate()
JOB = "01890a5d-ac96-774b-bcce-b302099a8057"


def log_records(count: int, job_id: str = JOB) -> list[SignedRecord]:
    """A log of that many events, chained."""
    found, link = [], GENESIS
    for position in range(1, count + 1):
        link, record = chained(position, link, job_id)
        found.append(record)
    return found


def chained(position: int, previous: bytes, job_id: str) -> tuple[bytes, SignedRecord]:
    draft = SignedRecord(
        position=position, stream=f"job-{job_id}", version=position, topic="job.submitted", schema_version=1,
        time=START + position, event_id=new_id(), correlation_id=job_id, causation_id="", traceparent="", data="{}",
        previous=previous.hex(), hash="", signature="",
    )  # fmt: skip
    made = record_hash(draft, "here")
    return made, msgspec.structs.replace(draft, hash=made.hex(), signature=OWNER.sign(made).hex())


def export(records: Sequence[SignedRecord], kind: str = "log") -> list[bytes]:
    header = Header(kind=kind, peer_id=OWNER.peer_id, job_id=JOB if kind == "job" else "")  # type: ignore[arg-type]
    writer = Writer(header, OWNER.sign)
    last = records[-1]
    return [writer.begin(), *map(writer.record, records), writer.end(last.position, last.hash)]


def check(lines: Sequence[bytes]) -> Checker:
    checker = Checker(verify_signature)
    assert all(isinstance(record, SignedRecord) for record in checker.records(lines))
    return checker


@pytest.mark.parametrize("kind", ["log", "job"])
def test_what_was_written_is_read(kind: str) -> None:
    records = log_records(3)
    lines = export(records, kind)
    assert list(Checker(verify_signature).records(lines)) == records
    checker = check(lines)
    assert checker.header is not None
    assert checker.footer is not None
    assert (checker.header.kind, checker.header.peer_id) == (kind, OWNER.peer_id)
    assert (checker.footer.events, checker.footer.position, checker.footer.hash) == (3, 3, records[-1].hash)
    assert checker.footer.content == sha256(b"".join(lines[:-1])).hexdigest()


def test_what_is_signed_is_this_text() -> None:
    assert head_statement("p", 7, "ab") == b"nunet-dms head of p: 7 ab"
    assert footer_statement("p", 7, "ab", "cd") == b"nunet-dms head of p: 7 ab, export cd"


def test_a_part_of_a_log_begins_behind_what_is_before_it() -> None:
    records = log_records(4)
    header = Header(kind="log", peer_id=OWNER.peer_id, first=3, previous=records[1].hash)
    writer = Writer(header, OWNER.sign)
    lines = [writer.begin(), *map(writer.record, records[2:]), writer.end(4, records[3].hash)]
    assert list(Checker(verify_signature).records(lines)) == records[2:]


Change = Callable[[list[bytes]], list[bytes]]


def footer(lines: list[bytes], **changes: object) -> bytes:
    found = msgspec.json.decode(lines[-1], type=Footer)
    return msgspec.json.encode(msgspec.structs.replace(found, **changes)) + b"\n"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines[:-1], "no footer"),
        (lambda lines: [], "no footer"),
        (lambda lines: [*lines, lines[1]], "line 6: something follows the footer"),
        (lambda lines: [lines[0], *lines[2:]], "position 1 was expected here"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "position 1 was expected here"),
        (lambda lines: [lines[0], lines[1].replace(b'"{}"', b'"{} "'), *lines[2:]], "its hash does not fit"),
        (lambda lines: [lines[0], b"{", *lines[2:]], "line 2 can't be read"),
        (lambda lines: [b"{", *lines[1:]], "line 1 can't be read"),
        (lambda lines: [*lines[:-1], b'{"line":"footer"}'], "line 5 can't be read"),
        (lambda lines: [*lines[:-1], footer(lines, events=4)], "counts 4 records, there are 3"),
        (lambda lines: [*lines[:-1], footer(lines, content="00")], "digest does not fit"),
        (lambda lines: [*lines[:-1], footer(lines, position=4)], "its head is 4"),
        (lambda lines: [*lines[:-1], footer(lines, hash="00" * 32)], "ends at position 3"),
        (lambda lines: [*lines[:-1], footer(lines, signature="00" * 64)], "not signed by"),
        (lambda lines: [*lines[:-1], footer(lines, signature="no hex")], "not signed by"),
        (lambda lines: [lines[0].replace(b'"log"', b'"log" '), *lines[1:]], "digest does not fit"),
    ],
)
def test_a_log_that_was_changed(change: Change, told: str) -> None:
    with pytest.raises(LogCorrupt, match=told):
        check(change(export(log_records(3))))


@pytest.mark.parametrize(
    ("records", "told"),
    [
        (log_records(3)[::-1], "version 1 of .* belongs here, not 3"),
        ([log_records(1)[0], log_records(1)[0]], "positions must ascend, the one before is 1"),
        ([log_records(2)[1]], "version 1 of .* belongs here, not 2"),
        (log_records(1, new_id()), f"is not of job {JOB}"),
        ([msgspec.structs.replace(log_records(1)[0], data="[]")], "hash not its own"),
        ([msgspec.structs.replace(log_records(1)[0], signature="00" * 64)], "without its signature"),
        ([msgspec.structs.replace(log_records(1)[0], event_id="no hex")], "malformed"),
    ],
)
def test_a_job_that_was_changed(records: Sequence[SignedRecord], told: str) -> None:
    with pytest.raises(LogCorrupt, match=told):
        check(export(records, "job"))


STRANGE: list[tuple[dict[str, object], str]] = [
    ({"version": 5}, "version 2 of .* belongs here, not 5"),
    ({"version": 1}, "version 2 of .* belongs here, not 1"),
    ({"version": 2**63}, "is beyond 9223372036854775807"),
    ({"time": 2**63}, "is beyond 9223372036854775807"),
    ({"time": 2**64}, "is beyond 9223372036854775807"),
    ({"time": -1}, "malformed"),
    ({"schema_version": 2**32}, "malformed"),
    ({"data": "no JSON"}, "not a JSON object"),
    ({"data": "[]"}, "not a JSON object"),
    ({"data": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"}, "not a JSON object"),
]


@pytest.mark.parametrize("kind", ["log", "job"])
@pytest.mark.parametrize(("changes", "told"), STRANGE)
def test_what_an_author_signs_that_no_log_can_hold(kind: str, changes: dict[str, object], told: str) -> None:
    """It fits its hash and its signature."""
    first, second = log_records(2)
    draft = msgspec.structs.replace(second, **changes)
    try:
        made = record_hash(draft, "here")
    except PeerMisbehaved:
        made = bytes(32)
    strange = msgspec.structs.replace(draft, hash=made.hex(), signature=OWNER.sign(made).hex())
    with pytest.raises(LogCorrupt, match=told):
        check(export([first, strange], kind))


def test_a_part_of_a_log_whose_streams_have_a_gap() -> None:
    records = log_records(4)
    _, strange = chained(4, bytes.fromhex(records[2].hash), JOB)
    draft = msgspec.structs.replace(strange, version=9)
    made = record_hash(draft, "here")
    header = Header(kind="log", peer_id=OWNER.peer_id, first=3, previous=records[1].hash)
    writer = Writer(header, OWNER.sign)
    last = msgspec.structs.replace(draft, hash=made.hex())
    lines = [writer.begin(), writer.record(records[2]), writer.record(last), writer.end(4, last.hash)]
    with pytest.raises(LogCorrupt, match=r"version 4 of .* belongs here, not 9"):
        check(lines)


def test_a_record_of_a_log_that_is_no_record() -> None:
    with pytest.raises(LogCorrupt, match=r"line 2.*malformed"):
        check(export([msgspec.structs.replace(log_records(1)[0], causation_id="no hex")]))
