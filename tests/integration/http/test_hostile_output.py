"""What a real job on this machine prints to spite its readers, as pages get it while it runs and afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.fixtures.described import message_of
from tests.fixtures.provider import end_of, providing
from tests.integration.http.node import Node, running_node
from tests.integration.test_compute_provider import ask, onboard, wanted

API = "/api/v1"
SCRIPT = r"""
printf '<script>alert(1)</script>\n\033[31mred\033[0m\n 10 %%\r100 %%\n'
printf '\342\200\256right to left\nnot UTF-8: \377\376\n'
head -c 1000000 /dev/zero | tr '\0' x; echo
echo error >&2
"""


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path, runs_for_peers=True) as made:
        await onboard(made)
        async with providing(made):
            yield made


async def lines_of(node: Node, job: str, **query: int) -> list[dict[str, Any]]:
    """All of them, a window at a time."""
    found: list[dict[str, Any]] = []
    after: int | None = 0
    async with node.client(headers={"x-log-token": node.services.log_token(job)}) as client:
        while after is not None:
            answer = await client.get(f"{API}/jobs/{job}/output", params={"after": after, **query})
            assert answer.status_code == 200, answer.text
            found, after = found + answer.json()["lines"], answer.json()["next"]
    return found


async def test_each_reader_gets_it_as_text_in_bounded_pieces(node: Node) -> None:
    message = wanted(SCRIPT)
    assert (await ask(node, message)).accepted
    job = message.job_id
    live: list[dict[str, Any]] = []
    async with node.connect(path=f"{API}/live/ws") as socket, asyncio.timeout(120):
        await socket.send(f'{{"id":"o","subscribe":"output","job_id":"{job}","after":0}}')
        while not (frame := msgspec.json.decode(await socket.recv())).get("sealed"):
            assert message_of("api.v1.live.ws", frame)
            live += frame.get("lines", ())
    await end_of(node, job)
    cut = await lines_of(node, job)
    assert cut == live, "followed or looked up, it is the same"
    assert [line["seq"] for line in cut] == list(range(1, len(cut) + 1))
    printed = [line["text"] for line in cut if line["stream"] == "stdout"]
    assert printed[:5] == [
        "<script>alert(1)</script>", "\x1b[31mred\x1b[0m", " 10 %\r100 %", "\u202eright to left",
        "not UTF-8: \ufffd\ufffd",
    ]  # fmt: skip
    assert [line["text"] for line in cut if line["stream"] == "stderr"] == ["error"]
    assert {len(line["text"]) for line in cut} <= set(range(4097))
    long = [line for line in await lines_of(node, job, max_line_bytes=1024 * 1024) if set(line["text"]) == {"x"}]
    assert "".join(line["text"] for line in long) == "x" * 1_000_000
    assert [line["goes_on"] for line in long] == [True] * (len(long) - 1) + [False]
