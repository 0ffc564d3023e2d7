"""The command `nunet` against two real nodes: what a user does in a day, and what comes out of it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ops.demo import PAYMENT_ADDRESS, START_SECONDS, Node, start_node, stop_nodes, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


class Network(NamedTuple):
    service: Node
    compute: Node


def nunet(node: Node, *args: str, stdin: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    """Fails the test unless the command ends with that code."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DMS_")}
    done = subprocess.run(
        [sys.executable, "-m", "dms.cli", "--config", str(node.config), *args],
        input=stdin,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def nunet_json(node: Node, *args: str) -> Any:
    return json.loads(nunet(node, "-o", "json", *args).stdout)


def request_for(compute: Node, script: str) -> str:
    return json.dumps(
        {
            "address_user": PAYMENT_ADDRESS,
            "max_ntx": 10,
            "blockchain": "Cardano",
            "service_type": "ml-training-cpu",
            "params": {
                "machine_type": "cpu",
                "image_id": "none",
                "model_url": script,
                "packages": [],
                "node_id": compute.peer_id,
            },
            "constraints": {"complexity": "Low", "cpu": 500, "ram": 256, "time": 1},
        }
    )


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("network")
    nodes: list[Node] = []
    try:
        for name in ("service-provider", "compute-provider"):
            node = start_node(name, folder / name, "process")
            nodes.append(node)
        service, compute = nodes
        for node in nodes:
            wait_for(f"{node.name} to be ready", START_SECONDS, node.ready, nodes)
            node.peer_id = nunet_json(node, "peer", "self")["id"]
        total = compute.ask("GET", "/onboarding/provisioned")
        half = ("-m", str(total["memory"] // 2), "-c", str(total["cpu"] // 2))
        nunet(compute, "onboard", *half, "-n", "nunet-test", "-a", PAYMENT_ADDRESS, "-x", "0.0001")
        wait_for("the peers to meet", 40, lambda: compute.peer_id in providers(service), nodes)
        yield Network(service, compute)
    finally:
        stop_nodes(nodes)


def providers(node: Node) -> list[str]:
    return [peer["id"] for peer in nunet_json(node, "peer", "list") if peer["provider"]]


def test_a_job_waited_for_gives_its_output_and_its_code(network: Network) -> None:
    request = request_for(network.compute, "echo out; echo err >&2; exit 3")
    done = nunet(network.service, "job", "run", "-", "--tx-hash", "a1", "--wait", stdin=request, code=3)
    assert done.stdout == "out\n"
    assert "err" in done.stderr.splitlines()
    assert "job-submitted" in done.stderr


def test_what_happened_to_a_job_can_be_read_later(network: Network) -> None:
    request = request_for(network.compute, "for i in 1 2 3; do echo line $i; done; echo bad >&2")
    done = nunet(network.service, "job", "run", "-", "--tx-hash", "a2", "-f", stdin=request)
    found = re.search(r"job ([0-9a-f-]{36}):", done.stderr)
    assert found is not None
    job_id = found[1]
    assert job_id in nunet(network.service, "job", "list").stdout
    assert nunet_json(network.service, "job", "describe", job_id)["status"] == "completed"
    assert "job.completed" in nunet(network.service, "job", "describe", job_id).stdout
    history = nunet_json(network.service, "job", "history", job_id)
    assert history[0]["topic"].endswith("job.service_requested")
    assert [event["position"] for event in history] == sorted(event["position"] for event in history)
    assert all(len(event["hash"]) == 64 for event in history)
    logs = nunet(network.service, "job", "logs", job_id)
    assert (logs.stdout, logs.stderr) == ("line 1\nline 2\nline 3\n", "bad\n")
    assert nunet(network.service, "job", "logs", job_id, "--after", "2", "--stream", "stdout").stdout == "line 3\n"
    lines = nunet(network.service, "job", "logs", job_id, "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3, 4]


def test_a_running_job_is_watched_and_stopped(network: Network) -> None:
    request = request_for(network.compute, "echo started; sleep 50")
    job_id = nunet(network.service, "job", "run", "-", "--tx-hash", "a3", stdin=request).stdout.strip()
    command = [sys.executable, "-m", "dms.cli", "--config", str(network.service.config), "job", "logs", "-f", job_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "started\n"
        nunet(network.service, "job", "stop", job_id, "--reason", "seen enough")
        assert watching.wait(30) == 0
    job = nunet_json(network.service, "job", "describe", job_id)
    assert (job["status"], job["reason"]) == ("failed", "seen enough")
    nunet(network.service, "job", "stop", job_id, code=5)


def test_a_job_that_nobody_can_run_is_not_placed(network: Network) -> None:
    request = json.loads(request_for(network.compute, "true"))
    request["constraints"]["ram"] = 900_000_000
    done = nunet(network.service, "job", "run", "-", "--tx-hash", "a4", stdin=json.dumps(request), code=6)
    assert "no peers found with matched specs" in done.stderr


def test_an_unknown_job_is_not_found(network: Network) -> None:
    for verb in ("describe", "history", "logs", "stop"):
        nunet(network.service, "job", verb, "01990000-0000-7000-8000-000000000001", code=3)


def test_capacity_shows_this_machine_and_the_network(network: Network) -> None:
    shown = {row["resources"]: row for row in nunet_json(network.compute, "capacity")}
    assert shown["Onboarded"]["cpu_mhz"] == shown["Full"]["cpu_mhz"] // 2
    assert shown["Network onboarded"]["cpu_mhz"] >= shown["Onboarded"]["cpu_mhz"]
    assert list(nunet_json(network.compute, "capacity", "--full")[0]) == list(shown["Full"])


def test_the_device_goes_offline_and_online(network: Network) -> None:
    nunet(network.compute, "device", "set", "offline")
    assert nunet(network.compute, "device", "status").stdout.split() == ["status", "offline"]
    nunet(network.compute, "device", "set", "online")
    assert nunet_json(network.compute, "device", "status") == {"online": True}


def test_views_are_listed_and_made_anew(network: Network) -> None:
    names = [row["name"] for row in nunet_json(network.service, "projection", "list")]
    assert {"jobs", "capacity"} <= set(names)
    before = nunet_json(network.service, "job", "list")
    nunet(network.service, "projection", "rebuild", "jobs")
    assert nunet_json(network.service, "job", "list") == before
    nunet(network.service, "projection", "rebuild", "nothing", code=3)


def test_a_changed_log_does_not_verify(network: Network, tmp_path: Path) -> None:
    assert nunet_json(network.service, "audit", "verify")["intact"]
    copy = tmp_path / "events.db"
    with sqlite3.connect(network.service.database) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    with target:
        # One byte of the first event, and its type in the database kept.
        changed = target.execute(
            "UPDATE event SET data = CAST(substr(data, 1, length(data) - 1) || ' ' AS BLOB) WHERE position = 1"
        ).rowcount
    target.close()
    assert changed == 1
    done = nunet(network.service, "audit", "verify", "--database", str(copy), code=1)
    assert "position 1 " in done.stderr
    nunet(network.service, "audit", "verify", "--database", str(tmp_path / "none.db"), code=3)


def test_a_second_daemon_on_the_same_data_is_refused(network: Network) -> None:
    nunet(network.service, "run", "--rest-port", "0", code=1)
