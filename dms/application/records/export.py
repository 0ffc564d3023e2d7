"""Writes exports of the log: whole, or one job. The format is in `dms/domain/export.py`."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from dms.application.ports.event_log import EventLog
from dms.application.ports.signing import Signer
from dms.application.records.job_events import events_of_job
from dms.domain.chain import GENESIS, SignedRecord
from dms.domain.event import Recorded
from dms.domain.export import Header, Writer
from dms.errors import NotFound

PAGE = 1000


def signed_record(recorded: Recorded, previous: bytes, signer: Signer | None) -> SignedRecord:
    """previous: the chain's link before it. Without a signer it carries no signature."""
    return SignedRecord(
        position=recorded.position,
        stream=recorded.originator_id,
        version=recorded.originator_version,
        topic=recorded.topic,
        schema_version=recorded.schema_version,
        time=recorded.time,
        event_id=recorded.event_id,
        correlation_id=recorded.correlation_id,
        causation_id=recorded.causation_id,
        traceparent=recorded.traceparent,
        data=recorded.data.decode(),
        previous=previous.hex(),
        hash=recorded.hash.hex(),
        signature=signer.sign(recorded.hash).hex() if signer is not None else "",
    )


async def export_log(log: EventLog, signer: Signer) -> AsyncGenerator[bytes, None]:
    """The lines of the whole log up to its head now, in chunks."""
    head, position, link = log.head, 0, GENESIS
    writer = Writer(Header(kind="log", peer_id=signer.peer_id), signer.sign)
    yield writer.begin()
    while position < head:
        page = await log.read(position, min(PAGE, head - position))
        chunk = b""
        for recorded in page:
            chunk += writer.record(signed_record(recorded, link, None))
            position, link = recorded.position, recorded.hash
        yield chunk
    yield writer.end(position, link.hex())


async def export_job(log: EventLog, signer: Signer, job_id: str) -> AsyncGenerator[bytes, None]:
    """The lines of one job, each record signed. Raises NotFound."""
    found = await events_of_job(log, job_id)
    if not found:
        raise NotFound(f"no job {job_id} here")
    head = found[-1]
    writer = Writer(Header(kind="job", peer_id=signer.peer_id, job_id=job_id, first=found[0].position), signer.sign)
    yield writer.begin()
    for recorded in found:
        yield writer.record(signed_record(recorded, log.previous_hash(recorded.position), signer))
    yield writer.end(head.position, head.hash.hex())
