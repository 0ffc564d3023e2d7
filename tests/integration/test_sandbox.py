"""A provider whose sandbox does not keep jobs in takes none, and says why, before anybody pays; it takes them again
once it does. With a real engine and a weakened profile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dms.adapters.executors import canary
from dms.adapters.executors.docker_settings import DockerSettings
from dms.adapters.executors.profile import container_config
from dms.application.network.messages import PreflightRequest
from dms.domain.device import Device
from dms.domain.event import new_id
from dms.domain.features import SANDBOX
from tests.fixtures.histories import request
from tests.fixtures.ports import free_port
from tests.fixtures.provider import LIMITS, SERVICE_PROVIDER, docker_provider
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import Node

pytestmark = [pytest.mark.tries_sandbox, pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images")]
SETTINGS = DockerSettings(limits=LIMITS, network="none")


def without_seccomp(*arguments: Any) -> dict[str, Any]:
    config = container_config(*arguments)
    config["HostConfig"]["SecurityOpt"] = ["no-new-privileges:true", "seccomp=unconfined"]
    return config


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(canary, "container_config", without_seccomp)
    async with docker_provider(tmp_path, SETTINGS) as made:
        await wait_for(lambda: made.services.device.hindrance)
        yield made


async def refusal(node: Node) -> str:
    message = PreflightRequest(job_id=new_id(), request=request("true", cpu=100, ram=64), price="1", hold_seconds=60)
    return (await node.services.compute_provider.preflights.answer(SERVICE_PROVIDER, message)).reason


async def recorded(node: Node) -> list[str]:
    topics = (Device.SandboxTested.TOPIC, Device.Hindered.TOPIC, Device.Unhindered.TOPIC)
    return [one.topic.removeprefix("device.") for one in await node.log.read(0, 1000, topics=topics)]


async def told(node: Node, method: str, path: str) -> Any:
    async with node.client() as client:
        answer = await client.request(method, path)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def test_jobs_are_refused_before_they_are_paid_while_a_row_fails_and_taken_again_once_it_does_not(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "system-calls: a job reaches io_uring" in await refusal(node)
    assert not node.services.device.offering().online
    assert any("system-calls" in text for text in (await told(node, "GET", "/readyz"))["degraded"])

    seen = await told(node, "GET", "/api/v1/device/doctor")
    assert (seen["verdict"], [row["name"] for row in seen["sandbox"] if row["state"] == "failed"]) == (
        "failed", ["system-calls"],
    )  # fmt: skip
    assert "system-calls" in seen["trouble"]
    again = await told(node, "POST", "/api/v1/device/doctor")
    assert again["sandbox"] == seen["sandbox"]
    assert await recorded(node) == ["sandbox_tested", "hindered"]  # what is no news is not recorded

    monkeypatch.setattr(canary, "container_config", container_config)
    better = await told(node, "POST", "/api/v1/device/doctor")
    assert (better["trouble"], {row["state"] for row in better["sandbox"]}) == ("", {"passed"})
    assert "system-calls" not in await refusal(node)
    assert not node.services.device.hindrance
    assert SANDBOX in node.services.device.offering().features
    assert await recorded(node) == ["sandbox_tested", "hindered", "sandbox_tested", "unhindered"]


def test_without_a_daemon_the_command_looks_by_itself(tmp_path: Path) -> None:
    key = tmp_path / "node.key"
    key.write_text("secret")
    key.chmod(0o640)
    environment = {
        "DMS_GENERAL_DATA_DIR": str(tmp_path), "DMS_GENERAL_WORK_DIR": str(tmp_path), "DMS_REST_PORT": str(free_port()),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "dms.cli", "doctor", "-o", "json"],
        check=False, capture_output=True, text=True, timeout=180, env=os.environ | environment,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert {row["state"] for row in found["sandbox"]} == {"passed"}
    failed = [row for row in found["machine"] if row["state"] == "failed"]
    assert [(row["name"], str(key) in row["found"], row["advice"] != "") for row in failed] == [("key", True, True)]
    assert (done.returncode, found["verdict"]) == (1, "failed")
    assert [file.name for file in tmp_path.iterdir()] == ["node.key"]
