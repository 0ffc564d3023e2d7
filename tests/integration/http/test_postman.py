"""The Postman collection, sent by Postman's own command line to a DMS: each answer is one that is described."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from dms.adapters.http.server import ROUTES
from tests.fixtures.npm import NODE, installed
from tests.integration.http.node import running_node

NEWMAN = Path(__file__).parents[2] / "fixtures" / "js_postman"


@pytest.mark.slow
async def test_each_request_of_the_collection_is_answered_as_described(tmp_path: Path) -> None:
    folder = await asyncio.to_thread(installed, NEWMAN)
    (tmp_path / "node").mkdir()
    report = tmp_path / "report.json"
    async with running_node(tmp_path / "node") as node:
        async with node.client() as client:
            (tmp_path / "collection.json").write_bytes((await client.get("/postman.json")).content)
        process = await asyncio.create_subprocess_exec(
            NODE, folder / "node_modules" / "newman" / "bin" / "newman.js", "run", tmp_path / "collection.json",
            "--reporters", "json", "--reporter-json-export", report, "--timeout-request", "20000",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
    assert report.exists(), output.decode()
    run = json.loads(report.read_bytes())["run"]
    assert [failure["source"]["name"] + ": " + failure["error"]["message"] for failure in run["failures"]] == []
    assert run["stats"]["requests"]["total"] == len(ROUTES)
    assert run["stats"]["assertions"]["total"] == len(ROUTES)
