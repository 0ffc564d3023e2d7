"""DMSes that a script starts on this machine: `nunet run` processes, each with ports and a folder of its own.

They are not told of each other: they meet over mDNS.
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
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, Protocol, TypeVar

import httpx
from docker import APIClient
from docker.errors import DockerException
from rich.console import Console
from rich.text import Text

from dms.adapters.executors.workspaces import Workspaces
from dms.cli.text import printable
from dms.errors import DmsError
from ops.demo_image import SHELL_IMAGE, build_images
from ops.leave import remove_gateways

T = TypeVar("T")

# Of no wallet in use: the example address of CIP-19, on the test network.
PAYMENT_ADDRESS = (
    "addr_test1qz2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer3n0d3vllmyqwsx5wktcd8cc3sq835lu7drv2xwl2wywfgs68faae"
)
START_SECONDS = 40.0
MEET_SECONDS = 40.0
STOP_SECONDS = 15.0
LOG_TAIL = 25

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


class StepFailed(Exception):
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
        """The decoded answer. Raises StepFailed with what the daemon says."""
        try:
            answer = httpx.request(
                method, f"{self.url}/api/v1{path}", json=body, params=query, timeout=20, trust_env=False
            )
        except httpx.HTTPError as error:
            raise StepFailed(f"{self.name}: {method} {path}: {error}") from error
        if answer.is_error:
            raise StepFailed(f"{self.name}: {method} {path} answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()

    def ready(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).is_success
        return False


Show = Callable[[list[Node], Path, str], None]


def run(show: Show, *, keep: bool) -> int:
    """Calls show(nodes, folder, executor), which starts nodes in the folder and adds each to the list at once. The
    exit code: 0, or 1 when a step failed or was interrupted. Nothing is left afterwards, unless `keep` and all is well.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)  # also where it was inherited as ignored (a shell's background job)
    started = time.monotonic()
    nodes: list[Node] = []
    with ExitStack() as cleaning:
        folder = Path(tempfile.mkdtemp(prefix="nunet-demo-"))
        cleaning.callback(shutil.rmtree, folder, ignore_errors=True)
        cleaning.callback(stop_nodes, nodes)
        try:
            show(nodes, folder, choose_executor())
        except (StepFailed, DmsError, KeyboardInterrupt) as error:
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


def start_nunet(arguments: Sequence[str], log: BinaryIO, environment: Mapping[str, str]) -> Running:
    """Its session is its own, so that Ctrl-C reaches only the script, which then stops it."""
    return subprocess.Popen(
        [sys.executable, "-m", "dms.cli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=Path(__file__).parent.parent,
        start_new_session=True,
    )


def start_node(
    name: str,
    folder: Path,
    executor: str,
    ports: Sequence[int] = (),
    bootstrap: Sequence[str] | None = None,
    start: Start = start_nunet,
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> Node:
    """A `nunet run` process. ports: of the REST API and for peers; by default ones that are free now. bootstrap: peers
    to join, on this machine alone; None: whoever is met over mDNS. more: further settings, by section."""
    folder.mkdir(parents=True)
    port, p2p_port = ports or free_ports(2)
    peers: dict[str, Any] = {"listen_address": [f"/ip4/0.0.0.0/tcp/{p2p_port}"]}
    if bootstrap is not None:
        peers = {
            "listen_address": [f"/ip4/127.0.0.1/tcp/{p2p_port}"],
            "mdns": False,
            "bootstrap_peers": list(bootstrap),
        }
    settings: dict[str, dict[str, Any]] = {
        "general": {"work_dir": str(folder / "work"), "data_dir": str(folder / "data")},
        "rest": {"port": port},
        "p2p": peers,
        "job": {"executor": executor, "allow_process_for_peers": executor == "process"},
    }
    for section, values in (more or {}).items():
        settings.setdefault(section, {}).update(values)
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


def wait_until_ready(nodes: Sequence[Node]) -> None:
    for node in nodes:
        wait_for(f"{node.name} to be ready", START_SECONDS, node.ready, nodes)
        node.peer_id = str(node.ask("GET", "/peers/self")["ID"])
        tell(f"{node.name}: {node.url}, peer {node.peer_id}")


def onboard(node: Node, percent: int) -> None:
    """With so much of this machine."""
    total = node.ask("GET", "/onboarding/provisioned")
    body = {
        "memory": int(total["memory"] * percent // 100),
        "cpu": int(total["cpu"] * percent // 100),
        "channel": "nunet-test",
        "payment_addr": PAYMENT_ADDRESS,
        "ntx_price": 0.0001,
    }
    node.ask("POST", "/onboarding/onboard", body)
    tell(
        f"{node.name}: {body['cpu']} MHz and {body['memory']} MB are offered, for at least {body['ntx_price']} NTX "
        "a minute"
    )


def meet(seeker: Node, provider: Node, nodes: Sequence[Node]) -> list[str]:
    """Waits until the seeker knows the provider's offer; answers the other providers that it knows."""
    began = time.monotonic()

    def known_providers() -> list[str]:
        found = seeker.ask("GET", "/peers/dht")
        return found if provider.peer_id in found else []

    what = f"{seeker.name} to hear of {provider.name}"
    known = wait_for(what, MEET_SECONDS, known_providers, nodes)
    tell(f"after {time.monotonic() - began:.1f} s {seeker.name} knows {provider.name} and its offer")
    return [peer for peer in known if peer != provider.peer_id]


def wait_for(what: str, seconds: float, look: Callable[[], T], nodes: Sequence[Node]) -> T:
    """The first answer that is true. Raises StepFailed when the time is over or a node has died."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        for node in nodes:
            if node.process.poll() is not None:
                raise StepFailed(f"{node.name} ended with code {node.process.returncode} while waiting for {what}")
        if time.monotonic() > deadline:
            raise StepFailed(f"waited {seconds:g} s for {what}")
        time.sleep(0.05)
    return answer


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
        remove_containers([node.peer_id for node in nodes if node.peer_id])
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


def remove_containers(peer_ids: Sequence[str]) -> None:
    """Those of a job that was cut short; after a job that ended there are none."""
    with suppress(DockerException):
        api = APIClient(base_url=os.environ.get("DOCKER_HOST"), version="auto", timeout=10)
        try:
            for peer_id in peer_ids:
                labels = {"label": f"io.nunet.dms.node_id={peer_id}"}
                for container in api.containers(all=True, filters=labels):
                    api.remove_container(container["Id"], force=True, v=True)
                remove_gateways(api, peer_id)
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
