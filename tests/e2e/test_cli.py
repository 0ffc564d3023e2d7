"""The command `nunet` against two real nodes: what a user does in a day, and what comes out of it."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fixtures.network import Network, nunet, nunet_json, request_for, running_network

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with running_network(tmp_path_factory.mktemp("network")) as network:
        yield network


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
    request = request_for(network.compute, "echo started; sleep 600")
    job_id = nunet(network.service, "job", "run", "-", "--tx-hash", "a3", stdin=request).stdout.strip()
    command = [sys.executable, "-m", "dms.cli", "--config", str(network.service.config), "job", "logs", "-f", job_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "started\n"
        nunet(network.service, "job", "stop", job_id, "--reason", "seen enough")
        assert watching.wait(120) == 0
    job = nunet_json(network.service, "job", "describe", job_id)
    assert (job["status"], job["reason"]) == ("failed", "seen enough")
    nunet(network.service, "job", "stop", job_id, code=5)


def test_a_job_that_its_provider_stops_says_so_to_its_user(network: Network) -> None:
    request = request_for(network.compute, "echo started; sleep 600")
    job_id = nunet(network.service, "job", "run", "-", "--tx-hash", "a31", stdin=request).stdout.strip()
    command = [sys.executable, "-m", "dms.cli", "--config", str(network.service.config), "job", "logs", "-f", job_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "started\n"
        nunet(network.compute, "job", "stop", job_id)
        assert watching.wait(120) == 0
    why = nunet_json(network.service, "job", "why", job_id)
    assert (why["reason"], why["fault"]) == ("terminated by its compute provider", "provider")


def test_two_exports_of_one_side_prove_nothing_about_the_other(network: Network, tmp_path: Path) -> None:
    request = request_for(network.compute, "true")
    done = nunet(network.service, "job", "run", "-", "--tx-hash", "a32", "--wait", stdin=request)
    job_id = done.stderr.split()[1].rstrip(":")
    for node, other in ((network.service, "compute"), (network.compute, "service")):
        export = str(tmp_path / f"{other}.ndjson")
        nunet(node, "events", "export", "--job", job_id, "-f", export)
        said = nunet(node, "audit", "verify", "--export", export, "--against", export, code=2).stderr
        assert f"is the export of the job's {other} provider" in said


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
    assert nunet_json(network.compute, "device", "status") == {
        "online": True, "accepting": True, "reasons": [], "network": "internet",
    }  # fmt: skip


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
    with closing(sqlite3.connect(network.service.database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        with target:
            # One byte of the first event, and its type in the database kept.
            changed = target.execute(
                "UPDATE event SET data = CAST(substr(data, 1, length(data) - 1) || ' ' AS BLOB) WHERE position = 1"
            ).rowcount
    assert changed == 1
    done = nunet(network.service, "audit", "verify", "--database", str(copy), code=1)
    assert "position 1 " in done.stderr
    nunet(network.service, "audit", "verify", "--database", str(tmp_path / "none.db"), code=3)


def test_the_log_of_a_daemon_without_systemd_is_collected(network: Network, tmp_path: Path) -> None:
    archive = tmp_path / "nunet-log.tar.gz"
    assert nunet(network.compute, "log", "--to", str(archive)).stdout == f"{archive}\n"
    with tarfile.open(archive) as tar:
        found = tar.extractfile("nunet-log/dms.log")
        assert found is not None
        lines = [json.loads(line) for line in found.read().splitlines()]
    assert "ready" in [line.get("action") for line in lines]


def test_a_job_tells_why_it_went_where_it_went(network: Network) -> None:
    """The service provider itself is not a provider: it is not among those refused, and the chosen one is named."""
    request = request_for(network.compute, "exit 4")
    done = nunet(network.service, "job", "run", "-", "--tx-hash", "a9", "--wait", stdin=request, code=4)
    found = re.search(r"job ([0-9a-f-]{36}):", done.stderr)
    assert found is not None
    why = nunet_json(network.service, "job", "why", found[1])
    assert (why["status"], why["provider"], why["exit_code"]) == ("failed", network.compute.peer_id, 4)
    assert "exit code 4" in why["reason"]
    assert network.compute.peer_id in nunet(network.service, "job", "why", found[1]).stdout


def test_a_second_daemon_on_the_same_data_is_refused(network: Network) -> None:
    nunet(network.service, "run", "--rest-port", "0", code=1)


@pytest.mark.parametrize("url", ["sqlite:///other.db", "postgresql://dms@localhost/dms"])
def test_a_log_that_would_not_be_where_it_was_asked_for_is_refused(tmp_path: Path, url: str) -> None:
    where = ("--data-dir", str(tmp_path), "--work-dir", str(tmp_path), "--rest-port", "0")
    command = [sys.executable, "-m", "dms.cli", "run", "--eventlog-url", url, *where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "eventlog.url: this version keeps its log in general.data_dir" in done.stderr
    assert not (tmp_path / "events.db").exists()
