"""/metrics: valid for Prometheus, true, and all that the dashboard and the alerts ask for."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as families

from tests.fixtures.dms import ADDRESS
from tests.integration.http.node import Node, running_node

ONBOARD = {"memory": 8000, "cpu": 4000, "channel": "nunet-test", "payment_addr": ADDRESS}
OPS = Path(__file__).parents[3] / "ops"
NAME = re.compile(r"\b(?:dms|process)_[a-z_]+\b")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as made:
        yield made


async def samples(node: Node) -> dict[str, dict[tuple[str, ...], float]]:
    """Sample name -> label values, by the labels' names -> value."""
    async with node.client() as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


async def settled(node: Node, name: str, labels: tuple[str, ...], value: float) -> dict[str, Any]:
    """The figures once one of them has that value: those that follow the log are a moment behind it."""
    deadline = asyncio.get_running_loop().time() + 120
    while (found := await samples(node)).get(name, {}).get(labels) != value:
        assert asyncio.get_running_loop().time() < deadline, f"{name} {labels} is not {value}: {found.get(name)}"
        await asyncio.sleep(0.01)
    return found


async def test_jobs_are_counted_by_state_and_outcome(node: Node) -> None:
    jobs = [await node.job() for _ in range(4)]
    await node.submit(jobs[0])
    await node.submit(jobs[1])
    await node.respond(jobs[1])
    await node.complete(jobs[1])
    await node.fail(jobs[2], "no")
    role = "service provider"
    found = await settled(node, "dms_jobs_ended_total", ("failed", role), 1)
    found = await settled(node, "dms_jobs_open", (role, "awaiting"), 1)
    assert found["dms_jobs_open"][role, "submitted"] == 1
    assert found["dms_jobs_ended_total"]["completed", role] == 1
    assert found["dms_job_duration_seconds_count"][(role,)] == 1
    assert found["dms_job_duration_seconds_bucket"]["1.0", role] == 1


async def test_the_log_and_its_subscribers_are_shown(node: Node) -> None:
    await asyncio.gather(*(node.job() for _ in range(20)))
    head = node.log.head
    found = await settled(node, "dms_subscriber_lag_events", ("view jobs",), 0)
    assert found["dms_eventlog_head_position"][()] == head
    assert sum(found["dms_events_total"].values()) == head
    assert found["dms_eventlog_batch_events_sum"][()] == head
    commits = found["dms_eventlog_commit_seconds_count"][()]
    assert 1 <= commits <= head
    assert found["dms_eventlog_append_seconds_count"][()] == commits
    assert found["dms_eventlog_append_seconds_sum"][()] > 0
    assert found["dms_eventlog_size_bytes"][()] > 0
    assert found["process_resident_memory_bytes"][()] > 1_000_000


async def online_is(node: Node, value: int) -> None:
    """Figures follow the log: a moment later they show it."""
    async with asyncio.timeout(120):
        while (await samples(node))["dms_device_online"] != {(): value}:
            await asyncio.sleep(0.01)


async def test_a_device_that_can_run_no_jobs_is_not_online(node: Node) -> None:
    async with node.client() as client:
        assert (await client.post("/api/v1/onboarding/onboard", json=ONBOARD)).status_code == 200
        await online_is(node, 1)
        await node.services.device.hinder("the engine is away")
        await online_is(node, 0)
        assert (await client.get("/api/v1/device/status")).json()["hindrance"] == "the engine is away"
        await node.services.device.hinder("")
        await online_is(node, 1)
        assert (await client.get("/api/v1/device/status")).json() == {
            "online": True,
            "accepting": True,
            "reasons": [],
        }


async def test_open_websockets_are_counted(node: Node) -> None:
    async with node.connect(), node.connect():
        await settled(node, "dms_clients_connected", ("websocket",), 2)
    await settled(node, "dms_clients_connected", ("websocket",), 0)


async def test_strangers_are_refused_as_everywhere(node: Node) -> None:
    async with node.client() as client:
        assert (await client.get("/metrics", headers={"Host": "metrics.example"})).status_code == 421
        assert (await client.get("/metrics", headers={"Origin": "http://evil.example"})).status_code == 403
        assert (await client.get("/metrics", headers={"Accept": "application/openmetrics-text"})).text.endswith(
            "# EOF\n"
        )


def asked_for() -> dict[str, set[str]]:
    """File -> names of the figures that it uses."""
    dashboard = json.loads((OPS / "grafana" / "dms.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = [
        rule["expr"]
        for group in yaml.safe_load((OPS / "prometheus" / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    ]
    return {"dashboard": set(NAME.findall(" ".join(queries))), "alerts": set(NAME.findall(" ".join(rules)))}


async def test_the_dashboard_and_the_alerts_ask_only_for_what_is_there(node: Node) -> None:
    await node.complete(await started(node))
    found = await settled(node, "dms_jobs_ended_total", ("completed", "service provider"), 1)
    for file, names in asked_for().items():
        assert len(names) > 5
        assert not names - set(found), file
    text = json.dumps(asked_for(), default=sorted)
    shown = {name for name in found if name.startswith("dms_") and not name.endswith(("_created", "_count", "_sum"))}
    assert len(shown) > 20, text


async def started(node: Node) -> str:
    job_id = await node.job()
    await node.submit(job_id)
    await node.respond(job_id)
    return job_id


def test_each_alert_says_what_to_do() -> None:
    for group in yaml.safe_load((OPS / "prometheus" / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"]
            assert rule["annotations"]["description"]
            assert rule["labels"]["severity"] in ("warning", "critical")
