"""Requests that no provider could run: the answer names the field, and nothing is quoted or paid."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.http.node import SERVICE_BODY, Node, running_node

TEXTS = [
    "address_user", "blockchain", "tx_hash", "service_type", "constraints.complexity", "params.image_id",
    "params.model_url", "params.machine_type", "params.node_id", "params.public_key", "params.local_node_id",
    "params.local_public_key", "params.packages", "params.arguments", "params.resume_job.progress_file",
]  # fmt: skip


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    async with running_node(tmp_path_factory.mktemp("node")) as made:
        yield made


def with_value(dotted: str, value: Any) -> dict[str, Any]:
    body = copy.deepcopy(SERVICE_BODY)
    at = body
    *folders, name = dotted.split(".")
    for folder in folders:
        at = at.setdefault(folder, {"resume": True} if folder == "resume_job" else {})
    at[name] = value
    return body


async def answered(node: Node, dotted: str, value: Any) -> tuple[int, dict[str, Any]]:
    async with node.client() as client:
        answer = await client.post("/api/v1/run/request-service", json=with_value(dotted, value))
        return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("dotted", "value", "pointer"),
    [
        ("params.image_id", "Not/An Image", "/params/image_id"),
        ("params.image_id", "a@sha256:1", "/params/image_id"),
        ("params.packages", ["x" * 512] * 256, "/params/packages"),
        ("params.packages", ["a\0b"], "/params/packages"),
        ("params.model_url", "\0", "/params/model_url"),
        ("params.arguments", ["a\0b"], "/params/arguments"),
        ("constraints.RAM", 1, "/constraints/ram"),
        ("constraints.CPU", 1, "/constraints/cpu"),
    ],
)
async def test_what_can_not_be_run_is_a_400_that_names_the_field(
    node: Node, dotted: str, value: Any, pointer: str
) -> None:
    status, body = await answered(node, dotted, value)
    assert status == 400, body
    assert pointer in str(body["errors"]), body
    assert node.log.head == 0  # nothing was recorded


@pytest.mark.slow
@pytest.mark.parametrize("dotted", TEXTS)
@pytest.mark.parametrize("value", ["\0", "a\0b", "\x1b[2J", "\u2028", "😀" * 128])
async def test_no_text_of_a_request_is_an_error_of_ours(node: Node, dotted: str, value: str) -> None:
    status, body = await answered(node, dotted, [value] if dotted.endswith(("packages", "arguments")) else value)
    assert 400 <= status < 500, body  # 404 where only a provider is missing
