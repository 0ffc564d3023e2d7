"""What readers are told of an output that is no longer what was sealed; and long lines, which come in pieces."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from dms.application.ports.outputs import OUTPUT_DAMAGED
from dms.cli.main import cli
from tests.integration.http.node import Node, running_node

API = "/api/v1"
NDJSON = {"accept": "application/x-ndjson"}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


async def sealed_job(node: Node, *texts: str) -> tuple[str, str]:
    """(its id, the address of its output)."""
    job = await node.job()
    await node.submit(job)
    await node.respond(job)
    await node.print_lines(job, *[("stdout", text) for text in texts])
    await node.complete(job)
    return job, f"{API}/jobs/{job}/logs?token={node.services.log_token(job)}"


def damaged(tmp_path: Path, job: str) -> bytes:
    """Its file, after a byte at the start of the fifth line was changed."""
    path = tmp_path / "logs" / f"{job}.ndjson"
    data = bytearray(path.read_bytes())
    data[data.index(b"[5,")] ^= 0x80
    path.chmod(0o600)
    path.write_bytes(data)
    return bytes(data)


async def nunet(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dms.cli", "--url", node.url, *arguments]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120)


async def test_every_reader_is_told_and_the_file_stays_as_it_is(node: Node, tmp_path: Path) -> None:
    job, url = await sealed_job(node, *[f"line {number}" for number in range(1, 31)])
    whole, _ = await sealed_job(node, "one")
    async with node.client() as client:
        good = await client.get(url)
        assert "output-damage" not in good.headers
        assert len(good.text.splitlines()) == 30
        left = damaged(tmp_path, job)
        for query in ("", "&follow=true", "&after=30", "&stream=stdout"):
            answer = await client.get(url + query)
            assert "were sealed" in answer.headers["output-damage"]
            assert answer.text.splitlines()[-1] == OUTPUT_DAMAGED + answer.headers["output-damage"]
        shown = (await client.get(url)).text.splitlines()
        assert shown[:6] == [*(f"line {n}" for n in (1, 2, 3, 4)), "[dms] line 5 is damaged or missing here", "line 6"]
        assert (await client.get(url + "&stream=stdout")).text.splitlines() == shown
        lines = [json.loads(line) for line in (await client.get(url, headers=NDJSON)).text.splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, 32))
    assert [line["seq"] for line in lines if line.get("damaged")] == [31]
    async with node.connect(f"?job_id={job}&after=0", v2=True) as ws, asyncio.timeout(120):
        while "stderr" not in (frame := msgspec.json.decode(await ws.recv())) or frame["seq"] != 31:
            assert frame["action"] not in ("job-completed", "error")
    said = await nunet(node, "job", "logs", job)
    assert (said.returncode, said.stdout.splitlines()) == (1, [f"line {n}" for n in range(1, 31) if n != 5])
    assert "is damaged" in said.stderr.splitlines()[-2]
    assert (await nunet(node, "job", "logs", whole)).returncode == 0
    assert (tmp_path / "logs" / f"{job}.ndjson").read_bytes() == left


async def test_the_audit_names_the_job_and_the_file(node: Node, tmp_path: Path) -> None:
    job, _ = await sealed_job(node, *[f"line {number}" for number in range(1, 11)])
    lost, _ = await sealed_job(node, "one")
    erased, _ = await sealed_job(node, "two")
    await sealed_job(node)
    await node.erase(erased)  # it destroys keys and makes the views anew
    (tmp_path / "logs" / f"{lost}.ndjson").unlink()
    verify = ("audit", "verify", "--database", str(tmp_path / "events.db"))

    def audited(*options: str) -> Result:
        return CliRunner().invoke(cli, [*options, *verify], catch_exceptions=False)

    good = await asyncio.to_thread(audited)
    assert (good.exit_code, good.stderr) == (0, "")
    assert good.stdout.strip().endswith("outputs of jobs as they were sealed: 2, 1 not here, 1 erased")
    damaged(tmp_path, job)
    bad = await asyncio.to_thread(audited)
    assert bad.exit_code == 1
    path = tmp_path / "logs" / f"{job}.ndjson"
    assert f"output of job {job} in {path}: 10 lines with SHA-256 " in bad.stderr
    report: dict[str, Any] = json.loads((await asyncio.to_thread(audited, "-o", "json")).stdout)
    assert (report["intact"], len(report["outputs"]["faults"]), report["outputs"]["checked"]) == (False, 1, 1)


async def test_an_end_that_can_not_be_read_is_told_also_where_nothing_was_sealed(node: Node, tmp_path: Path) -> None:
    job = await node.job()
    await node.submit(job)
    await node.print_lines(job, ("stdout", "one"), ("stdout", "two"))
    await node.fail(job, "provider lost")
    await node.outputs.close()
    path = tmp_path / "logs" / f"{job}.ndjson"
    left = path.read_bytes().replace(b"[2,", b"(2,")
    path.write_bytes(left)
    async with node.client() as client:
        answer = await client.get(f"{API}/jobs/{job}/logs?token={node.services.log_token(job)}&follow=true")
    assert answer.text.splitlines() == ["one", OUTPUT_DAMAGED + answer.headers["output-damage"]]
    assert (await nunet(node, "job", "logs", job)).returncode == 1
    assert path.read_bytes() == left


async def test_a_file_that_can_not_be_read_is_a_503_that_names_it(node: Node, tmp_path: Path) -> None:
    job, url = await sealed_job(node, "one")
    path = tmp_path / "logs" / f"{job}.ndjson"
    path.unlink()
    path.mkdir()
    async with node.client() as client:
        answer = await client.get(url)
    assert (answer.status_code, str(path) in answer.json()["detail"]) == (503, True)


async def test_pieces_of_a_long_line_are_put_together(node: Node) -> None:
    """As the executors cut it: a piece has 65,533 bytes or more, and the rest follows, if only with nothing."""
    pieces = ["€" * 21_845, "x" * 65_536, "end"]
    job, url = await sealed_job(node, *pieces, "next", "y" * 65_533, "", "last")
    printed = "".join(pieces) + "\nnext\n" + "y" * 65_533 + "\nlast\n"
    async with node.client() as client:
        assert (await client.get(url)).text == printed
        lines = [json.loads(line) for line in (await client.get(url, headers=NDJSON)).text.splitlines()]
    assert [line.get("goes_on", False) for line in lines] == [True, True, False, False, True, False, False]
    assert (await nunet(node, "job", "logs", job)).stdout == printed
    for v2 in (True, False):
        text = ""
        async with node.connect(f"?job_id={job}&after=0", v2=v2) as ws, asyncio.timeout(120):
            while (frame := msgspec.json.decode(await ws.recv()))["action"] != "job-completed":
                text += frame.get("stdout", "")
        assert text == printed
