"""Exports: each change of one is found, and two sides that tell the same are told apart from those that don't."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

import msgspec
import pytest

from dms.adapters.p2p.identity import Identity, verify_signature
from dms.domain.audit import check_evidence, compare, evidence, recorded
from dms.domain.chain import GENESIS, SignedRecord, record_hash
from dms.domain.deployment import Deployment
from dms.domain.event import Event, decode, encode, new_id
from dms.domain.export import Checker, Footer, Header, Writer, footer_statement, head_statement
from dms.domain.job import Job
from dms.domain.resources import Resources
from dms.domain.reward import Fault
from dms.errors import LogCorrupt
from tests.fixtures.histories import START, Author, paid, request

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
        (log_records(3)[::-1], "version 1 of .* is missing"),
        ([log_records(1)[0], log_records(1)[0]], "positions must ascend, the one before is 1"),
        ([log_records(2)[1]], "version 1 of .* is missing"),
        (log_records(1, new_id()), f"is not of job {JOB}"),
        ([msgspec.structs.replace(log_records(1)[0], data="[]")], "hash not its own"),
        ([msgspec.structs.replace(log_records(1)[0], signature="00" * 64)], "without its signature"),
        ([msgspec.structs.replace(log_records(1)[0], event_id="no hex")], "malformed"),
    ],
)
def test_a_job_that_was_changed(records: Sequence[SignedRecord], told: str) -> None:
    with pytest.raises(LogCorrupt, match=told):
        check(export(records, "job"))


def test_a_record_of_a_log_that_is_no_record() -> None:
    with pytest.raises(LogCorrupt, match=r"line 2.*malformed"):
        check(export([msgspec.structs.replace(log_records(1)[0], causation_id="no hex")]))


# --- evidence, and both sides ----------------------------------------------------------------------------
class Side:
    """The records of one side's stream."""

    def __init__(self, kind: str, key: str) -> None:
        self._stream, self.records = f"{kind}-{key}", list[SignedRecord]()

    def tell(self, *events: Event) -> None:
        for event in events:
            version = len(self.records) + 1
            draft = SignedRecord(
                position=version, stream=self._stream, version=version, topic=event.TOPIC, time=START + version,
                schema_version=event.VERSION, event_id=new_id(), correlation_id="", causation_id="", traceparent="",
                data=encode(event).decode(), previous="", hash="", signature="",
            )  # fmt: skip
            self.records.append(msgspec.structs.replace(draft, hash=record_hash(draft, "here").hex()))


def both_sides(*ends: Event) -> tuple[Author, Side, list[SignedRecord]]:
    """A job's records, and those of its deployment, from the request to the end."""
    author, asked = Author(), Side("job", JOB)
    made = request()
    job = Job(JOB)
    job.request_service(made, author.peer_id, "0.02728", START, (), 0)
    job.report_fund_status(paid())
    job.accept_funding("trust")
    ran = []
    for event in (
        Deployment.Requested(service_provider="p", request=made, price="0.02728"),
        Deployment.Accepted(reserved=Resources()),
        Deployment.ImagePulled(digest="sha256:0"),
        Deployment.ContainerCreated(container_id="c", executor="docker"),
        Deployment.ContainerStarted(stops_at=START + 1),
        *ends,
    ):
        record = author.record(JOB, event)
        ran.append(record)
        job.report_from_provider(record, decode(record.topic, record.schema_version, record.data.encode()))
    asked.tell(*(event for _, event in job.pending))
    return author, asked, ran


SEALED = Deployment.LogSealed(lines=0, sha256="", truncated=False)
EXITED = Deployment.ContainerExited(exit_code=0, oom_killed=False, duration_seconds=9.0)


def test_a_record_is_the_event_that_it_was() -> None:
    _, asked, _ = both_sides(SEALED, EXITED)
    for record in asked.records:
        found = recorded(record)
        assert (found.position, found.originator_version) == (record.position, record.version)
        assert found.originator_id == record.stream
        assert found.topic == record.topic
        assert found.time == record.time
        assert found.schema_version == record.schema_version
        assert found.data == record.data.encode()
        assert found.hash.hex() == record.hash
        assert record.topic == found.event.TOPIC


def test_evidence_is_what_the_provider_signed() -> None:
    author, asked, ran = both_sides(SEALED, EXITED)
    (held,) = evidence(asked.records)
    assert held.provider == author.peer_id
    assert held.held == ran
    check_evidence(asked.records, verify_signature)
    with pytest.raises(LogCorrupt, match="kept as evidence is not the provider's"):
        check_evidence(asked.records, lambda *_: False)


def test_evidence_of_a_request_that_can_t_be_read() -> None:
    _, asked, _ = both_sides()
    asked.records[0] = msgspec.structs.replace(asked.records[0], data="[]")
    with pytest.raises(LogCorrupt, match="can't be read"):
        evidence(asked.records)
    asked.records[0] = msgspec.structs.replace(asked.records[0], data="{}", schema_version=99)  # of a newer program
    assert evidence(asked.records)[0].provider == ""


def test_two_sides_that_tell_the_same() -> None:
    author, asked, ran = both_sides(SEALED, EXITED)
    found = compare(JOB, ("owner", asked.records), (author.peer_id, ran))
    assert found.differences == ()
    assert (found.job_id, found.service_provider, found.compute_provider) == (JOB, "owner", author.peer_id)
    assert found.records_compared == len(ran)
    assert found.bill is not None
    assert (found.bill.price, found.bill.state, found.bill.duration_seconds) == ("0.02728", "completed", 9.0)
    assert found.bill.reward is not None
    assert found.bill.reward.to_provider == "0.02728"


def test_another_provider_than_the_one_that_was_chosen() -> None:
    author, asked, ran = both_sides(SEALED, EXITED)
    found = compare(JOB, ("owner", asked.records), ("somebody", ran))
    assert found.differences == (f"the job was given to {author.peer_id}, the other export is of somebody",)


def test_what_one_side_lacks_or_has_otherwise() -> None:
    author, asked, ran = both_sides(SEALED, EXITED)
    found = compare(JOB, ("owner", asked.records), (author.peer_id, ran[:-1]))
    assert found.differences[0] == f"version {len(ran)} ({EXITED.TOPIC}) is missing at the compute provider"
    assert any(difference.startswith("duration: 9.0 at the service provider") for difference in found.differences)
    longer = Author().record(JOB, msgspec.structs.replace(EXITED, duration_seconds=99.0), version=len(ran))
    found = compare(JOB, ("owner", asked.records), (author.peer_id, [*ran[:-1], longer]))
    assert found.differences == (
        f"version {len(ran)} ({EXITED.TOPIC}) is another event at the compute provider",
        "duration: 9.0 at the service provider, 99.0 at the compute provider",
    )


def test_an_export_of_nothing() -> None:
    author, _, ran = both_sides(SEALED, EXITED)
    found = compare(JOB, ("owner", []), (author.peer_id, ran))
    assert found.bill is None
    assert found.differences == (
        f"the job was given to nobody, the other export is of {author.peer_id}",
        "one of the exports holds nothing of the job",
    )


def test_a_failed_attempt_earns_nothing() -> None:
    failed = Deployment.Failed(reason="gone", fault=Fault.PROVIDER)
    author, asked, ran = both_sides(SEALED, failed)
    found = compare(JOB, ("owner", asked.records), (author.peer_id, ran))
    assert found.differences == ()
    assert found.bill is not None
    assert found.bill.state == "failed"
    assert found.bill.reward is not None
    assert found.bill.reward.to_provider == "0"
