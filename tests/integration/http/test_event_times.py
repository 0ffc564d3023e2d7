"""REST of when events were, and the same over generated logs against a count of every event."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.application.records.density import density
from dms.domain.job import Job
from tests.integration.http.node import Node, running_node
from tests.integration.http.test_job_lists import Hours

API = "/api/v1"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path, now=Hours()) as running:
        yield running


async def test_a_time_has_its_position_and_a_position_its_time(node: Node) -> None:
    job = await node.job()
    await node.submit(job)
    times = [event.time for event in await node.log.read(0, 100)]
    async with node.client() as client:
        for number, time in enumerate(times, 1):
            shown = (await client.get(f"{API}/events/position?time={number}")).json()
            assert shown["position"] == number
            found = await client.get(f"{API}/events/position", params={"time": shown["time"]})
            assert found.json()["position"] == max(n for n, other in enumerate(times, 1) if other <= time)
            assert found.headers["x-position"] == str(found.json()["position"])
        before = await client.get(f"{API}/events/position?time=2000-01-01T00:00:00Z")
        assert before.json() == {"position": 0, "time": None}
        for wrong in ("", "?time=", "?time=soon", "?time=9999-01-01T00:00:00Z", "?time=1000000"):
            assert (await client.get(f"{API}/events/position{wrong}")).status_code == 400, wrong


async def test_the_density_has_every_event_once(node: Node) -> None:
    for _ in range(7):
        await node.submit(await node.job())
    async with node.client() as client:
        for buckets in (1, 3, 200):
            found = (await client.get(f"{API}/events/density?buckets={buckets}")).json()
            assert (found["first_position"], found["head"]) == (1, node.log.head)
            assert sum(bucket["count"] for bucket in found["buckets"]) == node.log.head
            assert 1 <= len(found["buckets"]) <= buckets
        for wrong in ("0", "1001", "x"):
            assert (await client.get(f"{API}/events/density?buckets={wrong}")).status_code == 400


@given(st.lists(st.integers(0, 10**15), max_size=60), st.integers(1, 30))
def test_each_event_counts_for_the_span_that_it_is_in(times: list[int], buckets: int) -> None:
    times.sort()
    found = density(len(times), lambda position: times[position - 1], buckets)
    assert len(found.buckets) <= buckets
    spans = [*(bucket.time for bucket in found.buckets), float("inf")]
    for bucket, end in zip(found.buckets, spans[1:], strict=True):
        assert bucket.count == sum(bucket.time <= time < end for time in times)
        assert bucket.position == 1 + sum(time < bucket.time for time in times)
    assert sum(bucket.count for bucket in found.buckets) == len(times) == found.head


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=60), st.integers(1, 30))
def test_a_clock_that_was_set_back_loses_no_event(times: list[int], buckets: int) -> None:
    found = density(len(times), lambda position: times[position - 1], buckets)
    assert sum(bucket.count for bucket in found.buckets) == len(times)
    assert all(bucket.count >= 0 for bucket in found.buckets)


@given(st.integers(1, 10**9))
def test_a_million_events_are_not_looked_at_one_by_one(seed: int) -> None:
    looked = 0

    def time_at(position: int) -> int:
        nonlocal looked
        looked += 1
        return position * seed

    found = density(1_000_000, time_at, 200)
    assert sum(bucket.count for bucket in found.buckets) == 1_000_000
    assert looked <= 200 * 21 + 2


# --- the past of one thing -----------------------------------------------------------------------------
async def test_a_jobs_history_and_the_device_are_shown_as_of_a_moment(node: Node) -> None:
    job = await node.job()
    await node.submit(job)
    at = node.log.head
    await node.fail(job, "broken")
    async with node.client() as client:
        then = await client.get(f"{API}/jobs/{job}/history?as_of={at}")
        assert [event["position"] for event in then.json()["items"]] == list(range(1, at + 1))
        assert then.headers["x-position"] == str(at)
        now = (await client.get(f"{API}/jobs/{job}/history")).json()["items"]
        assert now[-1]["topic"] == Job.Failed.TOPIC
        offer = {
            "memory": 4000, "cpu": 2000, "channel": "nunet-test", "ntx_price": 0.01,
            "payment_addr": "addr_test1vzpwq95z3xyum8vqndgdd9mdnmafh3djcxnc6jemlgdmswcve6tkw",
        }  # fmt: skip
        assert (await client.post(f"{API}/onboarding/onboard", json=offer)).status_code == 200
        online = node.log.head
        assert (await client.post(f"{API}/device/status", json={"is_available": False})).status_code == 200
        shown = [(await client.get(f"{API}/device/status?as_of={at}")).json() for at in (at, online, node.log.head)]
        assert [told["online"] for told in shown] == [False, True, False]
        assert (await client.get(f"{API}/device/status")).json() == shown[-1]
