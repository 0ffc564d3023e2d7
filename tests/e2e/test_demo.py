"""The demo as a newcomer runs it: it works, it is quick, and nothing of it is left."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from docker import APIClient
from docker.errors import DockerException

from ops.demo_ml.__main__ import EPOCHS
from ops.demo_ml.image import DIGITS, build_image

pytestmark = [pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent


def start_demo(folder: Path, module: str = "ops.demo") -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != "KEEP"}
    return subprocess.Popen(
        [sys.executable, "-u", "-m", module],
        cwd=ROOT,
        env=environment | {"TMPDIR": str(folder), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def cpu_seconds() -> float:
    """Of all processes that were started from here, and from there, and are over."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def left_over(folder: Path, output: str) -> list[str]:
    """Files, processes and containers that the demo should have taken away."""
    found = [str(path) for path in folder.iterdir()]
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or ())
        if str(folder) in command:
            found.append(command)
    try:
        api = APIClient(version="auto", timeout=120)
    except DockerException:
        return found
    with api:
        for peer_id in set(re.findall(r"peer (12D3\w+)", output)):
            for label in ("node_id", "gateway_node"):
                ours = {"label": f"io.nunet.dms.{label}={peer_id}"}
                found += [each["Id"] for each in (*api.containers(all=True, filters=ours), *api.networks(filters=ours))]
    return found


def test_the_demo_shows_a_job_from_request_to_verified_history(tmp_path: Path) -> None:
    before = cpu_seconds()
    with start_demo(tmp_path) as demo:
        output, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, output
    assert cpu_seconds() - before < 20  # quick on a quiet machine, then; this one may be busy
    expected = [
        "connected",
        "job-submitted",
        "deployment-response",
        "stdout: epoch 4 of 4",
        "stderr: a line for standard error",
        "job-completed",
        "job.service_requested",
        "job.submitted",
        "job.completed",
        "deployment.accepted",
        "deployment.container_exited",
        "service-provider: all",
        "compute-provider: all",
        "all done in",
    ]
    assert [text for text in expected if text not in output] == [], output
    assert left_over(tmp_path, output) == []


def test_an_interrupted_demo_leaves_nothing_either(tmp_path: Path) -> None:
    with start_demo(tmp_path) as demo:
        assert demo.stdout is not None
        seen = ""
        for line in demo.stdout:
            seen += line
            if "epoch 1" in line:
                break
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=120)
    output = seen + rest
    assert demo.returncode == 1, output
    assert "interrupted" in rest
    assert "the last lines of service-provider's log" in rest
    assert "the last lines of compute-provider's log" in rest
    assert left_over(tmp_path, output) == []


@pytest.mark.docker
def test_a_training_survives_the_death_of_its_provider_and_the_model_comes_back(tmp_path: Path) -> None:
    build_image(os.environ.get("DOCKER_HOST"))  # with the set-up, as a rule
    DIGITS.chmod(0o600)  # as in the home of root, where nobody else can read it
    with start_demo(tmp_path, "ops.demo_ml") as demo:
        output, _ = demo.communicate(timeout=400)
    assert demo.returncode == 0, output
    steps = [int(step) for step in re.findall(r"dms-metric loss=\S+ step=(\d+)", output)]
    assert set(steps) == set(range(1, EPOCHS + 1)), output
    [resumed] = re.findall(r"goes on with epoch (\d+)", output)
    assert int(resumed) > 1, output  # from a checkpoint, not from the beginning
    [accuracy] = re.findall(r"([\d.]+)% of 360 digits are read rightly", output)
    assert float(accuracy) >= 85, output
    assert "first-provider for good" in output or "second-provider for good" in output
    assert left_over(tmp_path, output) == []
