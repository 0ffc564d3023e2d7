"""REST of earnings: what each day, month, peer, machine and job brought and cost, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.adapters.http import earnings
from dms.adapters.http.earnings import Earnings, as_csv
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.resources import Resources
from tests.fixtures.histories import request as requested
from tests.integration.http.node import ADDRESS, PROVIDER, Node, running_node
from tests.integration.http.test_job_lists import STEP_US, Hours

API = "/api/v1"
FORMULA = "=HYPERLINK(1)"  # what a peer of an older version might have called itself
NTX = ("earned_ntx", "claimed_ntx", "paid_ntx", "to_claim_ntx", "spent_ntx")


@pytest.fixture
def hours() -> Hours:
    return Hours()


@pytest.fixture
async def node(tmp_path: Path, hours: Hours) -> AsyncIterator[Node]:
    async with running_node(tmp_path, now=hours) as running:
        yield running


async def ran(
    node: Node, peer: str, price: str, *, claimed: bool = False, settled: bool = False, gpus: tuple[str, ...] = ()
) -> str:
    deployment = Deployment(new_id())
    deployment.ask(peer, requested(time=10, tx_hash=new_id()), price, ADDRESS)
    deployment.grant(Resources(cpu_mhz=1), gpus)
    deployment.container_created("c1", "docker")
    deployment.container_started(1)
    deployment.trigger(Deployment.ContainerExited(exit_code=0, duration_seconds=60.0))
    if claimed:
        deployment.claim_reward()
    if settled:
        deployment.settle_reward("done", "0xpaid")
    await node.log.save(deployment)
    return deployment.key


async def a_month(node: Node, hours: Hours) -> dict[str, str]:
    """Jobs of 2026-01-31 and 2026-02-02, and such as do not count: unpaid, and not over."""
    jobs = {"a": await ran(node, "12D3KooWA", "0.1"), "b": await ran(node, "12D3KooWB", "0.2", claimed=True)}
    await node.job()
    hours.time += 48 * STEP_US
    jobs["c"] = await ran(node, "12D3KooWA", "100000000000000.00000001", claimed=True, settled=True)
    jobs["own"] = await node.job()
    await node.submit(jobs["own"])
    await node.respond(jobs["own"])
    await node.complete(jobs["own"])
    running = await node.job()
    await node.submit(running, "cd02")
    return jobs


def sums(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["group"], row["jobs"], *(row[name] for name in NTX))


async def test_earnings_by_each_kind_add_up(node: Node, hours: Hours) -> None:
    jobs = await a_month(node, hours)
    big, own = "100000000000000.00000001", node.services.network.peer_id
    first = (2, "0.3", "0.2", "0", "0.1", "0")
    second = (2, big, "0", big, "0", "0.1")
    everything = (4, "100000000000000.30000001", "0.2", big, "0.1", "0.1")
    expected: dict[str, list[tuple[Any, ...]]] = {
        "day": [("2026-01-31", *first), ("2026-02-02", *second)],
        "month": [("2026-01", *first), ("2026-02", *second)],
        "peer": [
            ("12D3KooWA", 2, "100000000000000.10000001", "0", big, "0.1", "0"),
            ("12D3KooWB", 1, "0.2", "0.2", "0", "0", "0"),
            (PROVIDER, 1, "0", "0", "0", "0", "0.1"),
        ],
        "device": [
            (own, 3, "100000000000000.30000001", "0.2", big, "0.1", "0"), (PROVIDER, 1, "0", "0", "0", "0", "0.1"),
        ],
        "job": [
            (jobs["a"], 1, "0.1", "0", "0", "0.1", "0"), (jobs["b"], 1, "0.2", "0.2", "0", "0", "0"),
            (jobs["c"], 1, big, "0", big, "0", "0"), (jobs["own"], 1, "0", "0", "0", "0", "0.1"),
        ],
    }  # fmt: skip
    async with node.client() as client:
        for by, rows in expected.items():
            answer = await client.get(f"{API}/earnings?by={by}")
            assert answer.status_code == 200, answer.text
            found = answer.json()
            assert [sums(row) for row in found["items"]] == sorted(rows), by
            assert (sums(found["total"]), found["next_token"]) == (("", *everything), "")
            assert (answer.headers["x-total"], found["position"]) == (str(len(rows)), node.log.head)
            down = (await client.get(f"{API}/earnings?by={by}&order=desc")).json()["items"]
            assert [sums(row) for row in down] == sorted(rows, reverse=True)


async def test_a_job_s_gpus_share_what_it_earned(node: Node, hours: Hours) -> None:
    await ran(node, "12D3KooWA", "1", gpus=("GPU-1", "GPU-2", "GPU-3"))
    await ran(node, "12D3KooWA", "2", gpus=("GPU-1",), claimed=True)
    await ran(node, "12D3KooWB", "0.1")
    expected = [
        ("GPU-1", 2, "2.33333334", "2", "0", "0.33333334", "0"),
        ("GPU-2", 1, "0.33333333", "0", "0", "0.33333333", "0"),
        ("GPU-3", 1, "0.33333333", "0", "0", "0.33333333", "0"), ("none", 1, "0.1", "0", "0", "0.1", "0"),
    ]  # fmt: skip
    async with node.client() as client:
        found = (await client.get(f"{API}/earnings/gpus")).json()
        assert [sums(row) for row in found["items"]] == expected
        assert sums(found["total"]) == ("", 3, "3.1", "2", "0", "1.1", "0"), "each job once"
        page = (await client.get(f"{API}/earnings/gpus?limit=3")).json()
        assert page["next_token"] == "GPU-3"
        lines = (await client.get(f"{API}/earnings/gpus?format=csv")).text.splitlines()
        assert [line.split(",")[0] for line in lines] == ["gpu", "GPU-1", "GPU-2", "GPU-3", "none"]
        jobs = (await client.get(f"{API}/jobs?role=cp&sort=price&order=asc")).json()["items"]
        assert [job["gpus"] for job in jobs] == [[], ["GPU-1", "GPU-2", "GPU-3"], ["GPU-1"]]


async def test_earnings_of_a_period_a_role_a_peer_and_a_moment(node: Node, hours: Hours) -> None:
    await ran(node, "12D3KooWA", "0.1")
    at = node.log.head
    await a_month(node, hours)
    async with node.client() as client:

        async def total(query: str) -> tuple[Any, ...]:
            return sums((await client.get(f"{API}/earnings?{query}")).json()["total"])[1:]

        assert await total("until=2026-02-01T00:00:00Z") == (3, "0.4", "0.2", "0", "0.2", "0")
        assert await total("since=2026-02-01T00:00:00Z&role=sp") == (1, "0", "0", "0", "0", "0.1")
        assert await total("peer=12D3KooWB") == (1, "0.2", "0.2", "0", "0", "0")
        assert await total(f"as_of={at}") == (1, "0.1", "0", "0", "0.1", "0")
        assert await total("as_of=0") == (0, "0", "0", "0", "0", "0")
        page = (await client.get(f"{API}/earnings?limit=1")).json()
        rest = (await client.get(f"{API}/earnings?limit=1&after={page['next_token']}")).json()
        assert [row["group"] for row in (*page["items"], *rest["items"])] == ["2026-01-31", "2026-02-02"]
        assert rest["next_token"] == ""
        for wrong in ("by=hour", "format=xml", "after=2027-01-01", "limit=0", "limit=10001", "role=boss", "since=soon"):
            assert (await client.get(f"{API}/earnings?{wrong}")).status_code == 400, wrong


@pytest.mark.parametrize("asked", [{"params": {"format": "csv"}}, {"headers": {"accept": "text/csv"}}])
async def test_csv_has_a_line_of_headings_and_no_formulas(node: Node, asked: dict[str, Any]) -> None:
    await ran(node, FORMULA, "0.1")
    async with node.client() as client:
        query = asked.get("params", {})
        answer = await client.get(f"{API}/earnings", params={"by": "peer", **query}, headers=asked.get("headers"))
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/csv")
        assert answer.headers["content-disposition"] == 'attachment; filename="earnings-by-peer.csv"'
        rows = list(csv.reader(io.StringIO(answer.text)))
        assert rows == [["peer", "jobs", *NTX], [f"'{FORMULA}", "1", "0.1", "0", "0", "0.1", "0"]]
        as_json = await client.get(f"{API}/earnings?by=peer&format=json", headers={"accept": "text/csv"})
        assert as_json.json()["items"][0]["group"] == FORMULA


async def test_csv_has_all_rows_unless_a_limit_is_given(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earnings, "PAGE", 1)
    for peer in ("12D3KooWA", "12D3KooWB", "12D3KooWC"):
        await ran(node, peer, "0.1")
    async with node.client() as client:
        assert len((await client.get(f"{API}/earnings?by=peer")).json()["items"]) == 1
        assert len((await client.get(f"{API}/earnings?by=peer&format=csv")).text.splitlines()) == 4
        assert len((await client.get(f"{API}/earnings?by=peer&format=csv&limit=2")).text.splitlines()) == 3


@given(st.text())
def test_no_cell_begins_as_a_formula_and_each_row_stays_one(group: str) -> None:
    row = Earnings(group=group, jobs=1, **dict.fromkeys(NTX, "0.1"))
    rows = list(csv.reader(io.StringIO(as_csv("peer", [row]), newline="")))
    assert len(rows) == 2
    assert rows[1][0].removeprefix("'") == group.removeprefix("'")
    assert not rows[1][0].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
