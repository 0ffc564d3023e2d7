"""A model is trained on other people's machines, one of which dies on the way.

    python -m ops.demo_ml            everything it starts is gone afterwards
    KEEP=1 python -m ops.demo_ml     leaves the nodes that are alive running, and says how to stop them

One service provider and two compute providers run as separate `nunet run` processes. The job learns to read 1,797
handwritten digits, which the service provider's user has as a file. When a third is learnt, the machine that runs it
is killed with everything on it. The job goes on at the other one from its newest checkpoint, and the model comes back.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from ops.demo import LAST_ACTIONS, TX_HASH, show_action, show_verification
from ops.demo_ml.image import DIGITS, CannotBuild, build_image
from ops.demo_ml.model import LEARNT, accuracy
from ops.nodes import (
    PAYMENT_ADDRESS,
    Node,
    StepFailed,
    console,
    meet,
    onboard,
    remove_containers,
    run,
    start_node,
    step,
    tell,
    wait_until_ready,
)

EPOCHS, SECONDS_AN_EPOCH = 60, 0.5
KILLED_AT = EPOCHS // 3
CHECKPOINT_MINUTES = 0.03
PROVIDER_GRACE_SECONDS = 5
JOB_SECONDS = 240.0
GOOD_ACCURACY = 0.85  # guessing reads one digit of ten
LOSS = re.compile(r"dms-metric loss=\S+ step=(\d+)")


def main() -> int:
    return run(show_training, keep=os.environ.get("KEEP", "") not in ("", "0"))


def show_training(nodes: list[Node], folder: Path, executor: str) -> None:
    """The whole demonstration. Raises StepFailed."""
    if executor != "docker":
        raise StepFailed("this demo needs Docker: its job is an image with Python and scikit-learn")
    image = find_image()
    service, providers = start_network(nodes, folder)
    offer = request_training(service, image)
    ended = follow_training(service, providers, offer["job_id"])
    if ended != "job-completed":
        raise StepFailed(f"the job ended with {ended}")
    fetch_model(service, offer["job_id"], folder / "model")
    show_verification([node for node in nodes if node.process.poll() is None])


def find_image() -> str:
    step("Building the job's image from Debian's packages, once")
    try:
        image = build_image(os.environ.get("DOCKER_HOST"))
    except CannotBuild as error:
        raise StepFailed(f"the image can't be built: {error}") from error
    tell(f"image {image}; data set {DIGITS}, {DIGITS.stat().st_size} bytes")
    return image


def start_network(nodes: list[Node], folder: Path) -> tuple[Node, list[Node]]:
    step("Starting a service provider and two compute providers")
    more: dict[str, dict[str, Any]] = {
        "job": {"log_update_interval": CHECKPOINT_MINUTES, "provider_grace": PROVIDER_GRACE_SECONDS},
        "files": {"send_folders": [str(DIGITS.parent)]},  # which is below root's home, perhaps, and so for root alone
    }
    names = ("service-provider", "first-provider", "second-provider")
    nodes.extend(start_node(name, folder / name, "docker", more=more) for name in names)
    wait_until_ready(nodes)
    service, *providers = nodes
    for provider in providers:
        onboard(provider, 33)
    for provider in providers:
        meet(service, provider, nodes)
    return service, providers


def request_training(service: Node, image: str) -> dict[str, Any]:
    step("Asking for the training")
    digest = hashlib.sha256(DIGITS.read_bytes()).hexdigest()
    body: dict[str, Any] = {
        "address_user": PAYMENT_ADDRESS,
        "max_ntx": 10,
        "blockchain": "Cardano",
        "service_type": "ml-training-cpu",
        "params": {
            "machine_type": "cpu",
            "image_id": image,
            "inputs": [{"url": DIGITS.as_uri(), "sha256": digest, "path": "inputs/digits.csv.gz"}],
            "env": {"EPOCHS": str(EPOCHS), "SECONDS_AN_EPOCH": str(SECONDS_AN_EPOCH)},
        },
        "constraints": {
            "complexity": "Low", "cpu": 500, "ram": 512, "vram": 0, "power": 10, "time": 3, "network": "none",
        },
        "retry": {"max_attempts": 2},
    }  # fmt: skip
    offer: dict[str, Any] = service.ask("POST", "/run/request-service", body)
    tell(f"job {offer['job_id']}: {offer['estimated_price']} NTX, provider {offer['compute_provider_id']}")
    return offer


def follow_training(service: Node, providers: list[Node], job_id: str) -> str:
    """Pays, prints each action, and kills the provider on the way; answers the last action."""
    step("Paying (a transaction is reported; the check `trust` believes it) and watching over the websocket")
    address = f"ws://127.0.0.1:{service.port}/api/v1/run/deploy?job_id={job_id}"
    try:
        with connect(address, open_timeout=10, close_timeout=2, proxy=None) as websocket:
            report = {"transaction_type": "fund", "transaction_status": "success", "tx_hash": TX_HASH}
            websocket.send(json.dumps({"message": report, "action": "send-status"}))
            return watch(websocket, service, providers, job_id)
    except TimeoutError as error:
        raise StepFailed(f"the job did not end within {JOB_SECONDS:g} s") from error
    except (WebSocketException, OSError, ValueError) as error:
        raise StepFailed(f"the websocket {address} broke: {error}") from error


def watch(websocket: ClientConnection, service: Node, providers: list[Node], job_id: str) -> str:
    began, killed = time.monotonic(), False
    empty: int | None = None  # checkpoints from before the first epoch was learnt
    while True:
        action = json.loads(websocket.recv(max(0.0, began + JOB_SECONDS - time.monotonic())))
        show_action(action, began)
        if action["action"] in LAST_ACTIONS:
            return str(action["action"])
        if action["action"] == "error":
            raise StepFailed(f"the payment was refused: {action.get('message')}")
        epochs = [int(epoch) for epoch in LOSS.findall(action.get("stdout", ""))]
        if killed or not epochs:
            continue
        received = checkpoints(service, job_id)
        if empty is None:
            empty = received + 1  # one more may be on its way
        if max(epochs) >= KILLED_AT and received > empty:
            kill_provider(service, providers, job_id)
            killed = True


def checkpoints(service: Node, job_id: str) -> int:
    """That were received so far."""
    events = service.ask("GET", f"/jobs/{job_id}/history")["items"]
    return sum(event["topic"] == "job.checkpoint_received" for event in events)


def kill_provider(service: Node, providers: list[Node], job_id: str) -> None:
    chosen = service.ask("GET", f"/jobs/{job_id}")["peer"]
    victim = next(provider for provider in providers if provider.peer_id == chosen)
    step(f"Killing {victim.name} for good, with the job's container")
    os.kill(victim.process.pid, signal.SIGKILL)
    victim.process.wait()
    remove_containers([victim.peer_id])
    tell(f"after {PROVIDER_GRACE_SECONDS} s without a word from it, the job goes on elsewhere")


def fetch_model(service: Node, job_id: str, folder: Path) -> None:
    """By the command line, as its user would. Raises StepFailed when the model is not good."""
    step("Fetching what the job made")
    show_command(service, "job", "results", job_id, "-d", str(folder))
    show_command(service, "job", "plot", job_id)
    step("Reading the digits that the job never saw, with the model that came back")
    try:
        right = accuracy(next(folder.rglob("model.json")), DIGITS)
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise StepFailed(f"the model can't be used: {error!r}") from error
    tell(f"{right:.1%} of {1797 - LEARNT} digits are read rightly")
    if right < GOOD_ACCURACY:
        raise StepFailed(f"at least {GOOD_ACCURACY:.0%} were expected")


def show_command(node: Node, *arguments: str) -> None:
    command = [sys.executable, "-m", "dms.cli", "--config", str(node.config), *arguments]
    console.print(f"  $ nunet {' '.join(arguments)}", style="cyan")
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2]
    )
    for line in done.stdout.splitlines():
        tell(line)
    if done.returncode:
        raise StepFailed(f"nunet {arguments[0]} {arguments[1]} ended with {done.returncode}: {done.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main())
