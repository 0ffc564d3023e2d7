"""What this machine and a job on it use, as REST tells it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dms.domain.deployment import Fault
from dms.domain.event import new_id
from tests.fixtures.provider import end_of, providing
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import Node, running_node
from tests.integration.test_compute_provider import ask, onboard, wanted


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path, runs_for_peers=True) as made:
        await onboard(made)
        made.services.compute_provider.usage.start()
        async with providing(made):
            yield made
        await made.services.compute_provider.usage.close()


async def usage(node: Node, query: str = "") -> Any:
    async with node.client() as client:
        answer = await client.get(f"/api/v1/device/usage{query}")
        return answer.json() | {"status": answer.status_code}


async def test_the_machine_and_the_job_that_runs_on_it_are_told(node: Node) -> None:
    watch, message = node.services.compute_provider.usage, wanted("sleep 300")
    assert (await ask(node, message)).accepted
    await wait_for(lambda: bool(watch.of(message.job_id) and watch.of_machine()))

    found = await usage(node)
    assert (found["cores"], found["memory_mb"], found["every_seconds"]) == (4, 16_000, 10)
    assert found["machine"][0]["memory_mb"] == 4_000
    assert [job["job_id"] for job in found["jobs"]] == [message.job_id]

    of_job = await usage(node, f"?job_id={message.job_id}")
    assert (of_job["machine"], of_job["jobs"]) == ([], found["jobs"])
    async with node.client() as client:
        answer = await client.get(f"/api/v1/deployments/{message.job_id}/usage")
        assert answer.json() == found["jobs"][0], "both are of the same samples"

    newest = found["machine"][-1]["time"]
    later = (datetime.fromisoformat(newest) + timedelta(microseconds=1)).isoformat().replace("+00:00", "Z")
    assert [sample["time"] for sample in (await usage(node, f"?since={newest[:-6]}Z"))["machine"]][:1] == [newest]
    assert (await usage(node, f"?since={later}"))["machine"] == []

    await node.services.compute_provider.stop(message.job_id, "operator", "enough", Fault.PROVIDER)
    await end_of(node, message.job_id)
    assert [job["job_id"] for job in (await usage(node))["jobs"]] == [message.job_id], "also when it is over"


async def test_of_a_job_that_is_not_here_nothing_is_told(node: Node) -> None:
    assert (await usage(node, f"?job_id={new_id()}"))["status"] == 404
    assert (await usage(node, "?since=yesterday"))["status"] == 400
