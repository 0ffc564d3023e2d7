"""What can't be written beside the log is told to who asks whether the DMS is ready, until it can."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.adapters.heads.file import HeadFile
from dms.adapters.outputs.files import FileOutputStore
from dms.application.ports.outputs import OutputLine
from dms.application.writes import Writes
from dms.domain.device import Device, Offer
from dms.domain.heads import Heads
from dms.errors import LogUnavailable, Unavailable
from tests.fixtures.waiting import wait_for
from tests.fixtures.worlds import WHOLE
from tests.integration.http.node import running_node


@contextlib.contextmanager
def no_file_grows() -> Iterator[None]:
    """As on a disk that is full: the kernel refuses each byte (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_output_and_heads_that_can_not_be_written_are_told_until_they_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writes = Writes()
    outputs, heads = FileOutputStore(tmp_path / "logs", 1, writes=writes), HeadFile(tmp_path, "me", writes)
    lines = [OutputLine("stdout", time.time_ns(), "a line")]
    await outputs.append("job", lines)
    await heads.save(Heads(peer_id="me"))
    before = (tmp_path / "heads.json").read_bytes()
    assert writes.troubles == []
    with no_file_grows():
        for _ in range(3):
            with pytest.raises(LogUnavailable):
                await outputs.append("job", lines)
            with pytest.raises(Unavailable):
                await heads.save(Heads(peer_id="me"))
    assert [one.partition(" can't")[0] for one in writes.troubles] == ["output of jobs", "heads"]
    assert (tmp_path / "heads.json").read_bytes() == before
    assert [record.message.partition(" can't")[0] for record in caplog.records] == ["output of jobs", "heads"]
    await outputs.append("job", lines)
    await heads.save(Heads(peer_id="me"))
    assert writes.troubles == []
    assert await outputs.last("job") == 2
    await outputs.close()


async def test_metadata_that_can_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dms.adapters.metadata.file.RETRY_SECONDS", 0.02)
    folder = tmp_path / "data"
    in_the_way = folder / "metadataV2.json" / "of another program"
    in_the_way.mkdir(parents=True)
    async with running_node(folder) as node:
        services = node.services
        device = Device(services.network.peer_id)
        device.onboard(Offer(cpu_mhz=2000, memory_mb=6400, channel="nunet-test", payment_address="addr"), WHOLE)
        await services.log.save(device)
        await wait_for(lambda: services.writes.troubles)
        async with node.client() as client:
            answer = (await client.get("/readyz")).json()
        assert answer["status"] == "ready"
        assert [one.partition(" can't")[0] for one in answer["degraded"]] == ["metadata"]
        in_the_way.rmdir()
        in_the_way.parent.rmdir()
        await wait_for(lambda: not services.writes.troubles)
        assert await services.metadata_path() == str(in_the_way.parent)
