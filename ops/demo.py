"""A small network on this machine: a job from request to result, and its history on both sides.

    python -m ops.demo            everything it starts is gone afterwards
    KEEP=1 python -m ops.demo     leaves both nodes running, and says how to stop them

A service provider and a compute provider run as separate `nunet run` processes, each with ports and a folder of its
own. They are not told of each other: they meet over mDNS. What asks for the job is a client of the original's kind: it
posts to `request-service`, opens the websocket, reports its payment, and reads until the job has ended.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from dms.cli.text import printable
from ops.demo_image import SHELL_IMAGE
from ops.nodes import (
    PAYMENT_ADDRESS,
    Node,
    StepFailed,
    console,
    meet,
    onboard,
    run,
    start_node,
    step,
    tell,
    wait_until_ready,
)

TX_HASH = "0" * 32  # nothing is paid here: the funding check `trust` believes what is reported
SCRIPT = """\
echo "training on $(uname -m)"
for epoch in 1 2 3 4; do
  echo "epoch $epoch of 4"
  sleep 0.4
done
echo "a line for standard error" >&2
echo "done"
"""
JOB_SECONDS = 40.0
LAST_ACTIONS = ("job-completed", "job-failed")


def main() -> int:
    return run(show_job, keep=os.environ.get("KEEP", "") not in ("", "0"))


def show_job(nodes: list[Node], folder: Path, executor: str) -> None:
    """The whole demonstration."""
    step("Starting two nodes that do not know each other")
    nodes.extend(start_node(name, folder / name, executor) for name in ("service-provider", "compute-provider"))
    service, compute = nodes
    wait_until_ready(nodes)
    step("Onboarding the compute provider with half of this machine")
    onboard(compute, 50)
    step("Waiting until they have found each other (mDNS)")
    others = meet(service, compute, nodes)
    offer = request_service(service, compute, targeted=bool(others))
    ended = follow_job(service)
    show_history(nodes, offer["job_id"])
    show_verification(nodes)
    if ended != "job-completed":
        raise StepFailed(f"the job ended with {ended}")


# --- the job -------------------------------------------------------------------------------------


def request_service(service: Node, compute: Node, *, targeted: bool) -> dict[str, Any]:
    step("Asking for a service")
    body: dict[str, Any] = {
        "address_user": PAYMENT_ADDRESS,
        "max_ntx": 10,
        "blockchain": "Cardano",
        "service_type": "ml-training-cpu",
        "params": {"machine_type": "cpu", "image_id": SHELL_IMAGE, "model_url": SCRIPT, "packages": []},
        "constraints": {
            "complexity": "Low",
            "cpu": 500,
            "ram": 64,
            "vram": 0,
            "power": 10,
            "time": 1,
            "network": "none",
        },
    }
    if targeted:
        tell("other providers are on this network: the request names ours")
        body["params"]["node_id"] = compute.peer_id
    offer: dict[str, Any] = service.ask("POST", "/run/request-service", body)
    tell(f"job {offer['job_id']}: {offer['estimated_price']} NTX, provider {offer['compute_provider_id']}")
    return offer


def follow_job(service: Node) -> str:
    """Reports the payment and prints each action as it arrives; answers the last one."""
    step("Paying (a transaction is reported; the check `trust` believes it) and watching over the websocket")
    address = f"ws://127.0.0.1:{service.port}/api/v1/run/deploy"
    try:
        with connect(address, open_timeout=10, close_timeout=2, proxy=None) as websocket:
            began = time.monotonic()
            show_action(json.loads(websocket.recv(10)), began)
            report = {"transaction_type": "fund", "transaction_status": "success", "tx_hash": TX_HASH}
            websocket.send(json.dumps({"message": report, "action": "send-status"}))
            while True:
                action = json.loads(websocket.recv(max(0.0, began + JOB_SECONDS - time.monotonic())))
                show_action(action, began)
                if action["action"] in LAST_ACTIONS:
                    return str(action["action"])
                if action["action"] == "error":
                    raise StepFailed(f"the payment was refused: {action.get('message')}")
    except TimeoutError as error:
        raise StepFailed(f"the job did not end within {JOB_SECONDS:g} s") from error
    except (WebSocketException, OSError, ValueError) as error:
        raise StepFailed(f"the websocket {address} broke: {error}") from error


def show_action(action: Mapping[str, Any], began: float) -> None:
    head = Text(f"  {(time.monotonic() - began) * 1000:6.0f} ms  ", style="dim")
    head.append(action["action"], style="cyan")
    said = [
        (f"{stream}: {line}", style)
        for stream, style in (("stdout", "green"), ("stderr", "yellow"))
        for line in action.get(stream, "").splitlines()
    ]
    message = action.get("message")
    if message is not None:
        said.append((message if isinstance(message, str) else json.dumps(message), "default"))
    for text, style in said:
        console.print(Text.assemble(head, "  ", (printable(text), style)))
    if not said:
        console.print(head)


# --- what is left of it: the log -----------------------------------------------------------------


def show_history(nodes: Sequence[Node], job_id: str) -> None:
    """Both sides' events of the job, from their logs."""
    histories = {node.name: events_of(node, job_id) for node in nodes}
    places = {e["event_id"]: f"{e['position']} of the {name}" for name, events in histories.items() for e in events}
    for name, events in histories.items():
        step(f"What the log of the {name} says about the job")
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), header_style="bold")
        for heading in ("position", "time (UTC)", "event", "caused by"):
            table.add_column(heading, justify="right" if heading == "position" else "left", no_wrap=True)
        for event in events:
            cause = event["causation_id"]
            # A command is not an event: its number only shows which events were decided together.
            shown = places.get(cause, f"command …{cause[-8:]}" if cause else "")
            moment = datetime.fromisoformat(event["time"]).strftime("%H:%M:%S.%f")[:-3]
            table.add_row(str(event["position"]), moment, event["topic"], shown.removesuffix(f" of the {name}"))
        console.print(table)


def events_of(node: Node, job_id: str) -> list[dict[str, Any]]:
    """In the order of the log."""
    found: list[dict[str, Any]] = node.ask("GET", f"/jobs/{job_id}/history")["items"]
    return found


def show_verification(nodes: Sequence[Node]) -> None:
    from dms.offline import Audit

    step("Recomputing the hash chains of both logs")
    for node in nodes:
        audit = Audit(node.database)
        events = max(audit.chain(), default=0)
        audit.close()
        tell(f"{node.name}: all {events} events are as they were written")


if __name__ == "__main__":
    sys.exit(main())
