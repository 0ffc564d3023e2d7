"""Figures that a job prints, over REST: read from its stored output, and gone with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dms.application.ports.outputs import OutputLine
from tests.integration.http.node import Node, running_node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


async def printed(node: Node, job: str, *texts: str) -> None:
    await node.outputs.append(
        job, [OutputLine("stdout", 1_760_000_000_000_000_000 + n, t) for n, t in enumerate(texts)]
    )


async def metrics(node: Node, job: str, query: str = "", status: int = 200) -> Any:
    async with node.client() as client:
        answer = await client.get(f"/api/v1/jobs/{job}/metrics{query}")
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_figures_are_served_as_they_come(node: Node) -> None:
    job = await node.job()
    assert (await metrics(node, job))["series"] == []
    await printed(node, job, "hello", "dms-metric loss=0.5 step=10", "dms-metric loss=0.25 acc=0.9 step=20")
    found = await metrics(node, job)
    assert [(one["name"], one["count"]) for one in found["series"]] == [("loss", 2), ("acc", 1)]
    assert [(point["step"], point["value"]) for point in found["series"][0]["points"]] == [(10, 0.5), (20, 0.25)]
    assert found["series"][0]["points"][0]["time"].startswith("2025-10-09T")
    await printed(node, job, "dms-metric loss=0.125 step=30")
    (loss,) = (await metrics(node, job, "?name=loss"))["series"]
    assert (loss["count"], loss["points"][-1]["value"]) == (3, 0.125)


async def test_they_are_gone_with_the_output(node: Node) -> None:
    job = await node.job()
    await printed(node, job, "dms-metric loss=0.5", "dms-metric loss=0.4")
    assert (await metrics(node, job))["series"][0]["count"] == 2
    await node.outputs.drop(job)
    assert (await metrics(node, job))["series"] == []


async def test_a_job_that_is_not_here_has_none(node: Node) -> None:
    await metrics(node, "01990000-0000-7000-8000-000000000001", status=404)
