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
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, Protocol, TypeVar

import httpx
from docker import APIClient
from docker.errors import DockerException
from rich.console import Console
from rich.table import Table
from rich.text import Text
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from dms.adapters.executors.workspaces import Workspaces
from dms.cli.text import printable
from dms.errors import DmsError
from ops.demo_image import SHELL_IMAGE, build_images

T = TypeVar("T")

# Of no wallet in use: the example address of CIP-19, on the test network.
PAYMENT_ADDRESS = (
    "addr_test1qz2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer3n0d3vllmyqwsx5wktcd8cc3sq835lu7drv2xwl2wywfgs68faae"
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
START_SECONDS = 40.0
MEET_SECONDS = 40.0
JOB_SECONDS = 40.0
STOP_SECONDS = 15.0
LOG_TAIL = 25
LAST_ACTIONS = ("job-completed", "job-failed")

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


class DemoFailed(Exception):
    """The message says which step did not work, and why."""


class Running(Protocol):
    """As much of subprocess.Popen as is used here."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


Start = Callable[[Sequence[str], BinaryIO, Mapping[str, str]], Running]


@dataclass
class Node:
    name: str
    folder: Path
    port: int
    process: Running
    peer_id: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        return self.folder / "dms_config.json"

    @property
    def log(self) -> Path:
        return self.folder / "daemon.log"

    @property
    def database(self) -> Path:
        return self.folder / "data" / "events.db"

    def ask(self, method: str, path: str, body: object = None, **query: str) -> Any:
        """The decoded answer. Raises DemoFailed with what the daemon says."""
        try:
            answer = httpx.request(
                method, f"{self.url}/api/v1{path}", json=body, params=query, timeout=20, trust_env=False
            )
        except httpx.HTTPError as error:
            raise DemoFailed(f"{self.name}: {method} {path}: {error}") from error
        if answer.is_error:
            raise DemoFailed(f"{self.name}: {method} {path} answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()

    def ready(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).is_success
        return False


def main() -> int:
    """The exit code: 0, or 1 when a step failed or was interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)  # also where it was inherited as ignored (a shell's background job)
    started = time.monotonic()
    keep = os.environ.get("KEEP", "") not in ("", "0")
    nodes: list[Node] = []
    with ExitStack() as cleaning:
        folder = Path(tempfile.mkdtemp(prefix="nunet-demo-"))
        cleaning.callback(shutil.rmtree, folder, ignore_errors=True)
        cleaning.callback(stop_nodes, nodes)
        try:
            executor = choose_executor()
            show_job(nodes, folder, executor)
        except (DemoFailed, DmsError, KeyboardInterrupt) as error:
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
            console.print(Text(f"\nfailed after {time.monotonic() - started:.1f} s: {why}", style="bold red"))
            for node in nodes:
                show_log_tail(node)
            return 1
        console.print(Text(f"\nall done in {time.monotonic() - started:.1f} s", style="bold green"))
        if keep:
            cleaning.pop_all()
            show_how_to_stop(nodes, folder)
    return 0


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def choose_executor() -> str:
    """ "docker" with the image built, or "process" where Docker can't be used."""
    step("Looking for Docker")
    try:
        build_images(os.environ.get("DOCKER_HOST"))  # as the daemons find it
    except (DockerException, OSError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        tell(f"Docker can't be used ({reason}): the job runs as a plain process, which does not confine it")
        return "process"
    tell(f"it answers; image {SHELL_IMAGE} is there")
    return "docker"


def show_job(nodes: list[Node], folder: Path, executor: str) -> None:
    """The whole demonstration. nodes: gets each node as soon as it is started."""
    step("Starting two nodes that do not know each other")
    for name in ("service-provider", "compute-provider"):
        node = start_node(name, folder / name, executor)
        nodes.append(node)  # at once: whatever happens next, it must be stopped
    service, compute = nodes
    for node in nodes:
        wait_for(f"{node.name} to be ready", START_SECONDS, node.ready, nodes)
        node.peer_id = _peer_id(node)
        tell(f"{node.name}: {node.url}, peer {node.peer_id}")
    onboard(compute)
    others = meet(service, compute, nodes)
    offer = request_service(service, compute, targeted=bool(others))
    ended = follow_job(service)
    show_history(nodes, offer["job_id"])
    show_verification(nodes)
    if ended != "job-completed":
        raise DemoFailed(f"the job ended with {ended}")


# --- the nodes -----------------------------------------------------------------------------------


def start_nunet(arguments: Sequence[str], log: BinaryIO, environment: Mapping[str, str]) -> Running:
    """Its session is its own, so that Ctrl-C reaches only the demo, which then stops it."""
    return subprocess.Popen(
        [sys.executable, "-m", "dms.cli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=Path(__file__).parent.parent,
        start_new_session=True,
    )


def start_node(name: str, folder: Path, executor: str, ports: Sequence[int] = (), start: Start = start_nunet) -> Node:
    """A `nunet run` process. ports: of the REST API and for peers; by default ones that are free now."""
    folder.mkdir(parents=True)
    port, p2p_port = ports or free_ports(2)
    settings = {
        "general": {"work_dir": str(folder / "work"), "data_dir": str(folder / "data")},
        "rest": {"port": port},
        "p2p": {"listen_address": [f"/ip4/0.0.0.0/tcp/{p2p_port}"]},
        "job": {"executor": executor, "allow_process_for_peers": executor == "process"},
    }
    config = folder / "dms_config.json"
    config.write_text(json.dumps(settings, indent=2) + "\n")
    environment = {key: value for key, value in os.environ.items() if not key.upper().startswith("DMS_")}
    with (folder / "daemon.log").open("wb") as log:
        process = start(["--config", str(config), "run"], log, environment)
    return Node(name, folder, port, process)


def free_ports(count: int) -> list[int]:
    """All held at once, so that they differ."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _peer_id(node: Node) -> str:
    return str(node.ask("GET", "/peers/self")["ID"])


def onboard(compute: Node) -> None:
    step("Onboarding the compute provider with half of this machine")
    total = compute.ask("GET", "/onboarding/provisioned")
    body = {
        "memory": int(total["memory"] // 2),
        "cpu": int(total["cpu"] // 2),
        "channel": "nunet-test",
        "payment_addr": PAYMENT_ADDRESS,
        "ntx_price": 0.0001,
    }
    compute.ask("POST", "/onboarding/onboard", body)
    tell(f"{body['cpu']} MHz and {body['memory']} MB are offered, for at least {body['ntx_price']} NTX a minute")


def meet(service: Node, compute: Node, nodes: Sequence[Node]) -> list[str]:
    """Waits until the service provider knows the compute provider; answers the other providers that it knows."""
    step("Waiting until they have found each other (mDNS)")
    began = time.monotonic()

    def known_providers() -> list[str]:
        found = service.ask("GET", "/peers/dht")
        return found if compute.peer_id in found else []

    what = "the service provider to hear of the compute provider"
    known = wait_for(what, MEET_SECONDS, known_providers, nodes)
    tell(f"after {time.monotonic() - began:.1f} s the service provider knows the compute provider and its offer")
    return [peer for peer in known if peer != compute.peer_id]


def wait_for(what: str, seconds: float, look: Callable[[], T], nodes: Sequence[Node]) -> T:
    """The first answer that is true. Raises DemoFailed when the time is over or a node has died."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        for node in nodes:
            if node.process.poll() is not None:
                raise DemoFailed(f"{node.name} ended with code {node.process.returncode} while waiting for {what}")
        if time.monotonic() > deadline:
            raise DemoFailed(f"waited {seconds:g} s for {what}")
        time.sleep(0.05)
    return answer


# --- the job -------------------------------------------------------------------------------------


def request_service(service: Node, compute: Node, *, targeted: bool) -> dict[str, Any]:
    step("Asking for a service")
    body: dict[str, Any] = {
        "address_user": PAYMENT_ADDRESS,
        "max_ntx": 10,
        "blockchain": "Cardano",
        "service_type": "ml-training-cpu",
        "params": {"machine_type": "cpu", "image_id": SHELL_IMAGE, "model_url": SCRIPT, "packages": []},
        "constraints": {"complexity": "Low", "cpu": 500, "ram": 64, "vram": 0, "power": 10, "time": 1},
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
                    raise DemoFailed(f"the payment was refused: {action.get('message')}")
    except TimeoutError as error:
        raise DemoFailed(f"the job did not end within {JOB_SECONDS:g} s") from error
    except (WebSocketException, OSError, ValueError) as error:
        raise DemoFailed(f"the websocket {address} broke: {error}") from error


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
            # A command is no event: its number only shows which events were decided together.
            shown = places.get(cause, f"command …{cause[-8:]}" if cause else "")
            moment = datetime.fromisoformat(event["time"]).strftime("%H:%M:%S.%f")[:-3]
            table.add_row(str(event["position"]), moment, event["topic"], shown.removesuffix(f" of the {name}"))
        console.print(table)


def events_of(node: Node, job_id: str) -> list[dict[str, Any]]:
    """In the order of the log."""
    found: list[dict[str, Any]] = node.ask("GET", f"/jobs/{job_id}/history")["items"]
    return found


def show_verification(nodes: Sequence[Node]) -> None:
    from dms.bootstrap import Audit

    step("Recomputing the hash chains of both logs")
    for node in nodes:
        audit = Audit(node.database)
        events = max(audit.chain(), default=0)
        audit.close()
        tell(f"{node.name}: all {events} events are as they were written")


# --- the end -------------------------------------------------------------------------------------


def stop_nodes(nodes: Sequence[Node]) -> None:
    """Ends the nodes, whatever state they are in, and what they may have left in Docker."""
    with _undisturbed():
        for node in nodes:
            with suppress(ProcessLookupError):
                node.process.terminate()
        for node in nodes:
            try:
                node.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                node.process.kill()
                node.process.wait(STOP_SECONDS)
        _remove_containers([node.peer_id for node in nodes if node.peer_id])
        for node in nodes:
            _end_processes(node)
            _unmount_workspaces(node)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not cut the cleaning short."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _remove_containers(peer_ids: Sequence[str]) -> None:
    """Those of a job that was cut short; after a job that ended there are none."""
    with suppress(DockerException):
        api = APIClient(base_url=os.environ.get("DOCKER_HOST"), version="auto", timeout=10)
        try:
            for peer_id in peer_ids:
                labels = {"label": f"io.nunet.dms.node_id={peer_id}"}
                for container in api.containers(all=True, filters=labels):
                    api.remove_container(container["Id"], force=True, v=True)
        finally:
            api.close()


def _end_processes(node: Node) -> None:
    """Jobs of the executor `process` outlive their DMS: the supervisor of each is told to end it."""
    for state in (node.folder / "data" / "processes").glob("*/state.json"):
        with suppress(OSError, ValueError, KeyError):
            stored = json.loads(state.read_bytes())
            if stored.get("exit_code") is None:
                os.kill(stored["supervisor_pid"], signal.SIGTERM)


def _unmount_workspaces(node: Node) -> None:
    workspaces = Workspaces(node.folder / "data" / "workspaces", "")
    for job_id in workspaces.jobs():
        with suppress(DmsError):
            workspaces.remove(job_id)


def show_log_tail(node: Node) -> None:
    console.print(Text(f"\nthe last lines of {node.name}'s log:", style="bold"))
    with suppress(OSError):
        for line in node.log.read_text(errors="replace").splitlines()[-LOG_TAIL:]:
            console.print(Text(f"  {printable(line)}", style="dim"))


def show_how_to_stop(nodes: Sequence[Node], folder: Path) -> None:
    console.print()
    for node in nodes:
        tell(f"{node.name}: {node.url}    data in {node.folder}    process {node.process.pid}")
        tell(f"    .venv/bin/nunet --config {node.config} job list    API: {node.url}/docs")
    stop = " ".join(str(node.process.pid) for node in nodes)
    tell(f"both go on running; stop them and delete their data with:  kill {stop}; rm -r {folder}")


def step(text: str) -> None:
    console.print(Text(f"\n{text}", style="bold"))


def tell(text: str) -> None:
    console.print(Text(f"  {text}"))


if __name__ == "__main__":
    sys.exit(main())
