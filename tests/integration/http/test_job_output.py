"""A job's output by line numbers, searched, and as a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from dms.adapters.http import job_output
from dms.adapters.outputs import sealed as sealed_module
from dms.application.jobs import output_windows
from dms.application.ports.outputs import LogLine, OutputLine, SealedLog
from dms.domain.deployment import Fault
from dms.domain.event import new_id
from dms.domain.job import Job
from tests.integration.http.node import Node, running_node

API = "/api/v1"
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "\x1b[2J\x1b]0;title\x07red",
    " 10 %\r 20 %\r100 %",
    "\u202eevil\u2066\u200f",
    "not UTF-8: \ufffd\ufffd",
    "nul \x00 and \u2028 and \U0001f600",
)


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    async with running_node(tmp_path_factory.mktemp("node")) as running:
        yield running


async def job_with(node: Node, *texts: str, stream: str = "stdout") -> str:
    job = await node.job()
    await node.submit(job)
    await node.respond(job)
    await printed(node, job, *texts, stream=stream)
    return job


async def printed(node: Node, job: str, *texts: str, stream: str = "stdout") -> None:
    await node.outputs.append(job, [OutputLine(stream, 1_000_000_000, text) for text in texts])


async def got(node: Node, job: str, query: str = "", what: str = "") -> httpx.Response:
    async with node.client(headers={"x-log-token": node.services.log_token(job)}) as client:
        return await client.get(f"{API}/jobs/{job}/output{what}{query}")


async def window(node: Node, job: str, query: str = "") -> Any:
    answer = await got(node, job, query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def seqs(found: Any) -> list[int]:
    return [line["seq"] for line in found["lines"]]


@pytest.mark.parametrize("ended", [False, True])
async def test_windows_forward_backward_and_from_the_end(node: Node, *, ended: bool) -> None:
    job = await job_with(node, *[f"line {number}" for number in range(1, 6001)])
    if ended:
        await node.complete(job)
    first = await window(node, job)
    assert (seqs(first), first["next"]) == (list(range(1, 201)), 200)
    assert (first["total_lines"], first["sealed"], first["truncated"], first["gaps"]) == (6000, ended, False, [])
    assert first["lines"][0] == {
        "seq": 1, "stream": "stdout", "time": "1970-01-01T00:00:01.000000+00:00", "text": "line 1", "cut": False,
        "size_bytes": 6, "goes_on": False,
    }  # fmt: skip
    assert seqs(await window(node, job, "?after=3000&limit=3")) == [3001, 3002, 3003]
    last = await window(node, job, "?after=5998")
    assert (seqs(last), last["next"]) == ([5999, 6000], None)
    end = await window(node, job, "?from_end=3")
    assert (seqs(end), end["next"]) == ([5998, 5999, 6000], 5998)
    assert seqs(await window(node, job, f"?before={end['next']}&limit=2")) == [5996, 5997]
    begin = await window(node, job, "?before=3")
    assert (seqs(begin), begin["next"]) == ([1, 2], None)
    assert seqs(await window(node, job, "?after=6000")) == seqs(await window(node, job, "?before=1")) == []
    assert seqs(await window(node, job, f"?before={2**62}&limit=1")) == [6000]


async def test_one_stream_is_looked_for_no_further_than_a_bound(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await job_with(node, *["out"] * 500)
    await printed(node, job, "err", stream="stderr")
    await printed(node, job, *["out"] * 500)
    assert seqs(await window(node, job, "?stream=stderr")) == [501]
    assert seqs(await window(node, job, "?stream=stderr&from_end=5")) == [501]
    monkeypatch.setattr(output_windows, "MOST_LOOKED_AT", 300)
    for start, direction, steps in (
        ("", "after", [300, 600, 900, None]),
        ("before=1002&", "before", [702, 402, 102, None]),
    ):
        found, query = list[int](), start
        for step in steps:
            shown = await window(node, job, f"?stream=stderr&{query}")
            found += seqs(shown)
            assert shown["next"] == step
            query = f"{direction}={step}&"
        assert found == [501]


async def test_hostile_output_is_told_as_it_was_printed(node: Node) -> None:
    job = await job_with(node, *HOSTILE)
    assert tuple(line["text"] for line in (await window(node, job))["lines"]) == HOSTILE
    answer = await got(node, job, what="/download")
    assert answer.text == "".join(text + "\n" for text in HOSTILE)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_long_lines_are_cut_and_can_be_had_whole(node: Node) -> None:
    long, piece = "é" * 10_000, "x" * 65_533
    job = await job_with(node, "short", long, piece, "the rest")
    lines = (await window(node, job))["lines"]
    assert [(line["cut"], line["size_bytes"], line["goes_on"]) for line in lines] == [
        (False, 5, False), (True, 20_000, False), (True, 65_533, True), (False, 8, False),
    ]  # fmt: skip
    assert lines[1]["text"] == "é" * 2048
    (whole,) = (await window(node, job, "?after=1&limit=1&max_line_bytes=1048576"))["lines"]
    assert (whole["text"], whole["cut"]) == (long, False)
    assert (await window(node, job, "?after=1&limit=1&max_line_bytes=3"))["lines"][0]["text"] == "é"


async def test_an_answer_is_no_larger_than_a_bound(node: Node) -> None:
    job = await job_with(node, *["x" * 60_000] * 100)
    for query, expected in (("?after=0", list(range(1, 19))), ("?from_end=100", list(range(83, 101)))):
        found = await window(node, job, f"{query}&max_line_bytes=1048576")
        assert seqs(found) == expected
        assert found["next"] == (expected[-1] if "after" in query else expected[0])


async def test_a_damaged_output_tells_its_gaps(node: Node) -> None:
    job = await job_with(node, *[f"line {number}" for number in range(1, 31)])
    await node.complete(job)
    path = node.services.database_path.with_name("logs") / f"{job}.ndjson"
    raw = path.read_bytes().splitlines(keepends=True)
    path.chmod(0o600)
    path.write_bytes(b"".join(raw[:4] + raw[9:]))
    found = await window(node, job)
    assert (found["total_lines"], seqs(found)) == (30, [1, 2, 3, 4, *range(10, 31)])
    assert found["gaps"] == [{"first": 5, "last": 9, "reason": "damaged or missing here"}]
    assert "were sealed" in found["damage"]
    assert seqs(await window(node, job, "?from_end=3")) == [28, 29, 30]
    assert seqs(await window(node, job, "?before=12&limit=4")) == [3, 4, 10, 11]
    path.unlink()
    found = await window(node, job)
    assert (found["total_lines"], seqs(found), found["sealed"]) == (30, [], True)
    assert found["gaps"] == [{"first": 1, "last": 30, "reason": "its file is missing"}]


async def test_of_very_many_gaps_the_last_stands_for_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_module, "MOST_GAPS", 3)
    path = tmp_path / "job.ndjson"
    path.write_text("".join(f'[{number},"stdout",1,"x"]\n' for number in range(1, 21) if number % 3 != 1))
    found = sealed_module.SealedOutput(path, SealedLog(20, "00", False)).about
    assert [(gap.first, gap.last) for gap in found.gaps] == [(1, 1), (4, 4), (7, 19)]
    assert found.lines == 20


async def test_an_erased_output_says_so(node: Node) -> None:
    job = await job_with(node, "one", "two")
    await node.complete(job)
    await node.erase(job)
    found = await window(node, job)
    assert (found["lines"], found["total_lines"]) == ([], 2)
    assert found["gaps"] == [{"first": 1, "last": 2, "reason": "erased as it was asked for"}]


async def test_lines_of_several_attempts_have_one_count(node: Node) -> None:
    job = await job_with(node, "first", "second")
    one = node.log.load(Job, job)
    assert one is not None
    one.trigger(Job.AttemptFailed(attempt=1, reason="gone", fault=Fault.PROVIDER))
    await node.log.save(one)
    one.start_attempt("12D3KooWOther", "", None, 2)
    await node.log.save(one)
    await node.outputs.extend(one.deployment_id, [LogLine(1, "stdout", 1, "third")])
    found = await window(node, job)
    assert [(line["seq"], line["text"]) for line in found["lines"]] == [(1, "first"), (2, "second"), (3, "third")]
    assert (found["total_lines"], found["sealed"]) == (3, False)
    assert seqs(await window(node, job, "?from_end=2")) == [2, 3]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?after=1&before=2", 400),
        ("?after=1&from_end=2", 400),
        ("?before=0", 400),
        ("?limit=2001", 400),
        ("?max_line_bytes=0", 400),
        ("?stream=stdin", 400),
        ("/search", 400),
        ("/search?q=", 400),
        (f"/search?q={'x' * 257}", 400),
        ("/download?stream=x", 400),
    ],
)
async def test_a_wrong_question_says_what_is_wrong(node: Node, query: str, status: int) -> None:
    job = await job_with(node)
    answer = await got(node, job, query)
    assert (answer.status_code, bool(answer.json()["errors"])) == (status, True)


@pytest.mark.parametrize("what", ["", "/search?q=x", "/download"])
async def test_only_who_has_the_token_reads(node: Node, what: str) -> None:
    job = await job_with(node, "one")
    async with node.client() as client:
        address = f"{API}/jobs/{job}/output{what}"
        assert (await client.get(address)).status_code == 403
        assert (await client.get(address, headers=[(b"x-log-token", b"\xe9")])).status_code == 403
        token = node.services.log_token(job)
        assert (await client.get(address, params={"token": token, "q": "x"})).status_code == 200
        unknown = new_id()
        other = await client.get(
            address.replace(job, unknown), headers={"x-log-token": node.services.log_token(unknown)}
        )
        assert other.status_code == 404


# --- the search ------------------------------------------------------------------------------------
async def searched(node: Node, job: str, query: str) -> Any:
    answer = await got(node, job, f"?{query}", "/search")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_search_is_literal_and_tells_no_case_unless_asked(node: Node) -> None:
    job = await job_with(node, "an Error here", "error.", "e.ror", "ÉTÉ", *HOSTILE)
    await printed(node, job, "ERROR", stream="stderr")
    found = await searched(node, job, "q=error")
    assert [(line["seq"], line["at"]) for line in found["lines"]] == [(1, 3), (2, 0), (5, 13), (11, 0)]
    assert (found["count"], found["next"], found["looked_at"]) == (4, None, 11)
    assert seqs(await searched(node, job, "q=Error&match_case=true")) == [1]
    assert seqs(await searched(node, job, "q=error&stream=stderr")) == [11]
    assert seqs(await searched(node, job, "q=e.ror")) == [3]
    assert seqs(await searched(node, job, "q=%C3%A9t%C3%A9")) == [4]
    assert seqs(await searched(node, job, "q=%3Cimg")) == [5]
    assert seqs(await searched(node, job, "q=nothing")) == []


async def test_a_place_counts_characters_of_the_line_as_it_is(node: Node) -> None:
    """In lower case the first letter is two characters."""
    job = await job_with(node, "\u0130\u0130 error", "\u0130")
    assert [line["at"] for line in (await searched(node, job, "q=ERROR"))["lines"]] == [3]
    assert [line["at"] for line in (await searched(node, job, "q=%C4%B0"))["lines"]] == [0, 0]


async def test_a_search_goes_on_where_it_stopped_and_counts(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await job_with(node, *["yes" if number % 10 == 0 else "no" for number in range(1, 1001)])
    assert (await searched(node, job, "q=yes&limit=0"))["count"] == 100
    page = await searched(node, job, "q=yes&limit=3")
    assert (seqs(page), page["next"], page["count"]) == ([10, 20, 30], 30, 3)
    monkeypatch.setattr(output_windows, "MOST_LOOKED_AT", 250)
    found: list[int] = []
    position: int | None = 0
    answers = 0
    while position is not None:
        page = await searched(node, job, f"q=yes&after={position}")
        found, position, answers = found + seqs(page), page["next"], answers + 1
    assert (found, answers) == (list(range(10, 1001, 10)), 4)
    assert job_output.PAGE == 200


async def test_a_download_is_a_file_with_a_safe_name(node: Node) -> None:
    job = await job_with(node, "one")
    await printed(node, job, "two", stream="stderr")
    answer = await got(node, job, what="/download")
    assert answer.headers["content-disposition"] == f'attachment; filename="job-{job}.txt"'
    assert answer.text == "one\ntwo\n"
    answer = await got(node, job, "?stream=stderr", "/download")
    assert answer.headers["content-disposition"] == f'attachment; filename="job-{job}-stderr.txt"'
    assert answer.text == "two\n"
