"""Nothing is paid before it is checked: what is wrong with a job file is told when the job is asked for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from dms.adapters.http import examples
from tests.fixtures.mistakes import MISTAKES, Mistake, body_of
from tests.integration.http.node import Node, running_node

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASK = "/api/v1/run/request-service"
README = """{
  "address_user": "ADDRESS", "max_ntx": 10, "blockchain": "Cardano", "service_type": "ml-training-cpu",
  "params": {"machine_type": "cpu", "image_id": "REPOSITORY:TAG", "model_url": "URL", "packages": []},
  "constraints": {"complexity": "Low", "cpu": 1000, "ram": 512, "vram": 0, "power": 20, "time": 5}}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    path: Path = tmp_path_factory.mktemp("node")
    async with running_node(path) as running:
        yield running


async def test_fifty_kinds_of_mistakes_are_known() -> None:
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES) >= 50


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name.replace(" ", "-"))
async def test_a_mistake_is_named_before_any_money_moves(node: Node, mistake: Mistake) -> None:
    before = node.log.head
    async with node.client() as client:
        refused = await client.post(ASK, json=body_of(mistake), params={"strict": mistake.warning})
    assert refused.status_code == 400
    ((pointer, detail),) = [(error["pointer"], error["detail"]) for error in refused.json()["errors"]]
    assert pointer == mistake.pointer
    assert mistake.says in detail
    assert node.log.head == before, "nothing is quoted, so nothing can be paid"


async def test_the_job_file_of_the_readme_is_refused_with_its_field(node: Node) -> None:
    async with node.client() as client:
        refused = await client.post(ASK, content=README, headers={"content-type": "application/json"})
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["pointer"] == "/params/image_id"


async def test_what_is_refused_as_strict_alone_is_not_called_misread(node: Node) -> None:
    body = examples.SERVICE_REQUEST | {"blockchain": "Bitcoin"}
    async with node.client() as client:
        strict = (await client.post(ASK, json=body, params={"strict": "true"})).json()
        misread = (await client.post(ASK, json=body | {"max_ntx": "ten"}, params={"strict": "true"})).json()
    assert strict["error"] == "refused as strict at /blockchain: unknown blockchain 'Bitcoin'; Cardano or Ethereum"
    assert misread["error"].startswith("invalid request data: ")
    assert [one["pointer"] for one in misread["errors"]] == ["/max_ntx", "/blockchain"]


async def test_all_that_is_wrong_is_told_at_once(node: Node) -> None:
    body = json.loads(README) | {"blokchain": "Cardano", "max_ntx": "ten", "service_type": "x"}
    body["constraints"] |= {"time": 0, "complexity": "Medium", "gpu": 1}
    del body["constraints"]["cpu"]
    body["params"]["inputs"] = [{"url": "https://example.com/a"}, {"url": 3}, {"sha256": ""}]
    async with node.client() as client:
        refused = await client.post(ASK, json=body, params={"strict": "true"})
    pointers = [error["pointer"] for error in refused.json()["errors"]]
    assert sorted(pointers) == [
        "/address_user", "/blokchain", "/constraints/complexity", "/constraints/cpu", "/constraints/gpu",
        "/constraints/time", "/max_ntx", "/params/image_id", "/params/inputs/1/url", "/params/inputs/2/url",
        "/service_type",
    ]  # fmt: skip
    assert all(pointer in refused.json()["error"] for pointer in pointers)
