"""Checks of a stored log beyond its hash chain, and the making of one from an export."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from dms.adapters.eventlog.envelope import Draft
from dms.adapters.eventlog.keyring import PSEUDONYM, PSEUDONYMS
from dms.adapters.eventlog.mapper import LogStore
from dms.adapters.eventlog.recorder import LogRecorder
from dms.domain.chain import SignedRecord, check_record, id_bytes
from dms.domain.export import Checker
from dms.domain.job import Job
from dms.domain.payment import Payment
from dms.errors import InvalidInput, LogCorrupt, PeerMisbehaved

PAGE = 2000
_IMPORTED = "imported"
Verify = Callable[[str, bytes, bytes], bool]


def check_signatures(store: LogStore, verify: Verify) -> Iterator[int]:
    """Every record of a provider that is kept as evidence, against that provider's key. Yields how many so far.
    Raises LogCorrupt naming the position."""
    providers: dict[str, str] = {}
    position = count = 0
    topics = (Job.ServiceRequested.TOPIC, Job.AttemptStarted.TOPIC, Job.ProviderReported.TOPIC)
    while page := store.read(position, PAGE, topics=topics):
        for one in page:
            if isinstance(one.event, Job.ServiceRequested | Job.AttemptStarted):
                providers[one.originator_id] = one.event.provider
            elif isinstance(one.event, Job.ProviderReported):
                count += 1
                try:
                    check_record(one.event.record, providers.get(one.originator_id, ""), verify)
                except PeerMisbehaved as error:
                    raise LogCorrupt(f"position {one.position}: its record is not the provider's: {error}") from error
        position = page[-1].position
        yield count


def is_of_an_export(recorder: LogRecorder) -> bool:
    """Whether the log was imported, or its keys are gone in another way: a used payment is not known again then."""
    if recorder.note(_IMPORTED) is not None:
        return True
    if recorder.keys.has(PSEUDONYMS):
        return False
    return any(PSEUDONYM.fullmatch(name.partition("-")[2]) for name in recorder.streams(Payment.KIND))


def import_log(lines: Iterable[bytes], recorder: LogRecorder, verify: Verify) -> Iterator[int]:
    """Puts a whole export into an empty log, to be read: same positions, same hashes, no keys. Yields the position
    reached. Raises LogCorrupt when it does not verify; what was written until then is of no use."""
    recorder.set_note(_IMPORTED, b"")
    checker = Checker(verify)
    batch: list[SignedRecord] = []
    for record in checker.records(lines):
        batch.append(record)
        if len(batch) == PAGE:
            yield _append(recorder, batch)
            batch = []
    header = checker.header
    if header is None or header.kind != "log" or header.first != 1:
        raise InvalidInput("only a whole log can be imported; check the export of a job with: nunet audit verify")
    yield _append(recorder, batch)


def _append(recorder: LogRecorder, records: list[SignedRecord]) -> int:
    if records:
        recorder.insert(
            [
                Draft(
                    r.stream, r.version, r.topic, r.data.encode(), r.schema_version, r.time, id_bytes(r.event_id),
                    id_bytes(r.correlation_id), id_bytes(r.causation_id), r.traceparent,
                )
                for r in records
            ]
        )  # fmt: skip
        recorder.commit()
    return recorder.head
