"""What the log says of outputs, told without looking through it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.application.records.seals import Seals
from dms.domain.erasure import Erasure
from dms.domain.event import new_id
from dms.errors import Conflict
from tests.integration.http.node import running_node


def erasure_of(*scopes: str) -> Erasure:
    made = Erasure(new_id())
    made.request(scopes)
    return made


async def test_what_was_erased_is_known_from_the_decision_on_without_a_read(log: SQLiteEventLog) -> None:
    seals = Seals(log)
    asked: list[str] = []
    for reading in (log.recorder.reader._scans, log.recorder.reader._at_once):
        reading.connection.set_trace_callback(asked.append)
    assert not await seals.erased("one")
    await log.save(erasure_of("one", "transfer-2"))
    log._live.forget()
    assert await seals.erased("one")
    assert await seals.erased("transfer-2")
    assert not await seals.erased("two")
    assert asked == []


async def test_what_could_not_be_written_was_not_erased(log: SQLiteEventLog) -> None:
    seals, first = Seals(log), erasure_of("one")
    again = Erasure(first.key)
    again.request(("one", "two"))
    await log.save(first)
    with pytest.raises(Conflict):  # that version is there
        await log.save(again)
    assert await seals.erased("one")
    assert not await seals.erased("two")


async def test_a_start_takes_up_what_was_erased_before(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        await node.services.log.save(erasure_of("one"))
    async with running_node(tmp_path) as node:
        seals = node.services.outputs.store._seals  # type: ignore[attr-defined]
        assert await seals.erased("one")
        assert not await seals.erased("two")
