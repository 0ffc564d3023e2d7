"""Reading a log in bulk, for folds over much of it: only the columns that folds look at, the names of streams fetched
a page at a time, and bodies read only where one of the folds looks into them."""

from __future__ import annotations

from collections.abc import Callable

from dms.adapters.eventlog.recorder import LogRecorder
from dms.domain.chain import SignedRecord
from dms.domain.event import UNREAD, Event, Fact, Reader, event_type, reader
from dms.domain.sealing import Opener
from dms.errors import LogCorrupt

Plan = tuple[str, type[Event], Reader]
"""What is done with a topic's rows: its name, the class of its events, and what makes one."""


class FactReader:
    """reads: whether bodies of that type are looked at; the others are left UNREAD."""

    def __init__(self, recorder: LogRecorder, reads: Callable[[type[Event]], bool]) -> None:
        self._recorder, self._reads = recorder, reads
        self._plans: dict[int, Plan] = {}
        self._unread: tuple[int, ...] = ()

    def read(self, after: int, limit: int, until: int) -> list[Fact]:
        """Events behind `after`, in order, at most `limit`, none behind `until`. Raises LogCorrupt."""
        while True:
            archive = self._recorder.archived
            archived = archive.last()
            end = min(archived, until)
            found = [self._of_record(one) for one in archive.read(after, limit, end)] if after < end else []
            if len(found) < limit:
                found += self._of_rows(max(after, archived), limit - len(found), until)
            if archive.last() == archived:  # else some of the rows may have gone between the two looks
                return found

    def _of_record(self, record: SignedRecord) -> Fact:
        found = event_type(record.topic, record.schema_version)
        event: Event = UNREAD
        if self._reads(found):
            event = reader(record.topic, record.schema_version)(record.data.encode(), self._recorder.keys)
        kind, _, key = record.stream.partition("-")
        return Fact(record.position, kind, key, record.topic, record.time, found, event)

    def _of_rows(self, after: int, limit: int, until: int) -> list[Fact]:
        rows, streams = self._recorder.lean_rows(after, limit, until, self._unread)
        plans, keys = self._plans, self._recorder.keys
        facts: list[Fact] = []
        for position, stream, topic_id, time, data in rows:
            plan = plans.get(topic_id)
            if plan is None:
                plan = self._learn(topic_id, position)
            topic, type_of_event, decode = plan
            kind, key = streams[stream]
            facts.append(Fact(position, kind, key, topic, time, type_of_event, decode(data, keys)))
        return facts

    def _learn(self, topic_id: int, position: int) -> Plan:
        """The plans of all topics, when a new one was met."""
        topics = self._recorder.topics()
        for known, (topic, schema_version) in topics.items():
            found = event_type(topic, schema_version)
            self._plans[known] = topic, found, reader(topic, schema_version) if self._reads(found) else _leave
        self._unread = tuple(known for known in topics if self._plans[known][2] is _leave)
        if topic_id not in self._plans:
            raise LogCorrupt(f"position {position} was changed: there is no topic {topic_id!r}")
        return self._plans[topic_id]


def _leave(_data: bytes, _keys: Opener | None) -> Event:
    return UNREAD
