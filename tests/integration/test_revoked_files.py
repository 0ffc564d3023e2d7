"""A file that is being given when its peer may read it no more: no further piece goes, whatever the peer asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import msgspec
import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.application.files import file_exchange
from dms.application.files.file_exchange import FetchRequest, FileExchange
from dms.application.files.file_parts import PIECE_BYTES
from dms.application.files.user_files import Outbox
from dms.application.inputs.input_fetcher import KIND as INPUT
from dms.application.inputs.own_inputs import OwnInputs
from dms.application.network.messages import encode
from dms.application.ports.executor import Executor
from dms.application.results.result_files import ResultFiles
from dms.application.results.results_keeper import KIND as RESULTS
from dms.application.results.results_keeper import ResultLimits, ResultsKeeper
from dms.clock import machine_clock
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.inputs import Input
from dms.domain.job import FundStatus, Job
from dms.domain.resources import Resources
from dms.domain.reward import Fault
from dms.domain.transfer import Direction, Transfer
from dms.errors import NotFound
from tests.fixtures.histories import request
from tests.integration.http.node import LonelyNetwork, now_us
from tests.integration.test_transfers import PEER, Side, event_log, side

__all__ = ["event_log", "side"]

SIZE = 4 * PIECE_BYTES


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_exchange, "END_TOLD_SECONDS", 0.01)


async def ends_with(exchange: FileExchange, kind: str, file_id: str, revoke: Callable[[], Awaitable[object]]) -> None:
    """One piece goes, and none behind the end; nor anew."""
    body = encode(FetchRequest(kind=kind, id=file_id, size_bytes=SIZE))
    pieces = exchange._on_fetch(PEER, body)
    assert len(await anext(pieces)) == PIECE_BYTES
    await revoke()
    with pytest.raises(NotFound):
        await anext(pieces)
    with pytest.raises(NotFound):
        await anext(exchange._on_fetch(PEER, body))


async def test_a_transfer_that_is_cancelled(event_log: SQLiteEventLog, side: Side, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(SIZE))
    side.transfers.serve()
    transfer = Transfer(new_id())
    source = str((tmp_path / "data").resolve())
    transfer.offer(Direction.OUT, PEER, "data", SIZE, "0" * 64, machine_clock(), source)
    await event_log.save(transfer)
    await ends_with(side.transfers._exchange, "offer", transfer.key, lambda: side.transfers.cancel(transfer.key))
    side.transfers.note(PEER, transfer.key, SIZE)  # of a piece that was on its way
    assert side.transfers.snapshot(transfer.key).done_bytes == 0
    assert not side.transfers._progress


async def test_results_that_are_deleted(event_log: SQLiteEventLog, tmp_path: Path) -> None:
    network, files = LonelyNetwork("here"), ResultFiles(tmp_path)
    exchange, unused = FileExchange(network), cast("Executor", None)
    files.make()
    keeper = ResultsKeeper(event_log, unused, files, exchange, now_us, ResultLimits())
    keeper.serve(network)
    deployment = Deployment(new_id())
    deployment.accept(PEER, request(), "1", Resources(cpu_mhz=1, memory_mb=1), ())
    deployment.container_created("c", "process")
    deployment.container_started(now_us())
    archive = files.created(deployment.key)
    archive.write_bytes(bytes(SIZE))
    deployment.save_results(archive.name, SIZE, "ab" * 32, now_us())
    deployment.exited(0, False, 1.0)
    await event_log.save(deployment)
    await ends_with(exchange, RESULTS, deployment.key, lambda: keeper.delete(deployment.key, "delivered"))


async def test_an_input_of_a_job_that_is_over(event_log: SQLiteEventLog, tmp_path: Path) -> None:
    data = (tmp_path / "data").resolve()
    data.write_bytes(bytes(SIZE))
    exchange = FileExchange(LonelyNetwork("here"))
    OwnInputs(event_log, exchange, Outbox([tmp_path], [], tmp_path / "received")).serve()
    asked = request()
    given = Input(url=f"file:{data}", path="data", size_bytes=SIZE)
    asked = msgspec.structs.replace(asked, params=msgspec.structs.replace(asked.params, inputs=(given,)))
    job = Job(new_id())
    job.request_service(asked, PEER, "0.1", now_us() + 600_000_000, (), 0)
    job.report_fund_status(FundStatus(transaction_type="fund", transaction_status="success", tx_hash="ab01"))
    job.accept_funding("trust")
    await event_log.save(job)

    async def end() -> None:
        job.fail_attempt("the provider went away", Fault.PROVIDER)
        await event_log.save(job)

    await ends_with(exchange, INPUT, f"{job.key}/1", end)
