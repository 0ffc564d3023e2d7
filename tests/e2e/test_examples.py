"""Every example in the help of every command is run, against two real nodes, and in every form of output.

The examples are collected from the command tree. A new command is run as its example says; when it needs a state or
has placeholders of its own, it gets a `Case` below.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from dms.cli.main import cli
from dms.domain.sealing import ERASED
from ops.nodes import PAYMENT_ADDRESS, Node, wait_for
from projections.transactions import DONE
from tests.fixtures import prepared
from tests.fixtures.network import (
    Network,
    nunet,
    onboard,
    providers,
    request_for,
    running_network,
    shell_environment,
)
from tests.fixtures.ports import free_port

pytestmark = [pytest.mark.slow]

_numbers = itertools.count(1)
_OWN_FORMAT = re.compile(r" (-o|--output) (json|jsonl|yaml)\b")


@dataclass(frozen=True)
class World:
    network: Network
    folder: Path
    env: Mapping[str, str]
    closing: contextlib.ExitStack

    @property
    def service(self) -> Node:
        return self.network.service

    @property
    def compute(self) -> Node:
        return self.network.compute

    def provider(self) -> None:
        """The compute provider is onboarded, online, and known."""
        if not self.compute.ask("GET", "/onboarding/status")["onboarded"]:
            onboard(self.compute)
        if not self.compute.ask("GET", "/device/status")["online"]:
            nunet(self.compute, "device", "set", "online")
        wait_for("the provider to be known", 120, lambda: self.compute.peer_id in providers(self.service), ())

    def job(self, script: str, *options: str) -> str:
        """A new job's id."""
        self.provider()
        done = nunet(self.service, "-o", "json", "job", "run", "-", *options, stdin=request_for(self.compute, script))
        found = json.loads(done.stdout)
        return str(found["job_id"])

    @cached_property
    def tx_hash(self) -> str:
        """That paid for the job which is over."""
        return new_hash()

    @cached_property
    def ended_job(self) -> str:
        return self.job("for i in 1 2 3; do echo line $i; done", "--tx-hash", self.tx_hash, "--wait")

    @cached_property
    def _jobs_with_results(self) -> list[str]:
        return []

    def newest_job_with_results(self) -> str:
        """What @last names; also figures were printed by it."""
        newest = self.service.ask("GET", "/jobs", role="sp", limit="1")["items"]
        if not newest or newest[0]["job_id"] not in self._jobs_with_results:
            self._jobs_with_results.append(self._job_with_results())
        return self._jobs_with_results[-1]

    def _job_with_results(self) -> str:
        script = (
            "for step in 1 2 3; do echo dms-metric loss=0.$step step=$step; done; "
            "mkdir -p results; echo weights > results/model.bin"
        )
        job_id = self.job(script, "--tx-hash", new_hash(), "--wait")
        wait_for("the results to be here", 120, lambda: self.has_results(job_id), ())
        return job_id

    def has_results(self, job_id: str) -> bool:
        return bool(self.service.ask("GET", f"/jobs/{job_id}/results")["state"] == "here")

    def offer(self, sender: Node, receiver: Node) -> str:
        """A file that waits for the receiver's user; the transfer's id."""
        path = self.shared / f"results-{next(_numbers)}.tar.gz"
        path.write_bytes(b"results")
        path.chmod(0o644)
        done = nunet(sender, "-o", "json", "send-file", receiver.peer_id, str(path), "--no-wait")
        return str(json.loads(done.stdout)["transfer_id"])

    @cached_property
    def shared(self) -> Path:
        """A folder that every user of this machine may read: from no other does root's daemon send."""
        return Path(self.closing.enter_context(tempfile.TemporaryDirectory(prefix="nunet-examples-", dir="/var/tmp")))

    def call(self) -> None:
        """A chat that waits for the service provider's user."""
        command = [sys.executable, "-m", "dms.cli", "--config", str(self.compute.config), "chat", "start"]
        caller = self.closing.enter_context(
            subprocess.Popen(
                [*command, self.service.peer_id], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, env=self.env,
            )
        )  # fmt: skip
        self.closing.callback(caller.kill)
        wait_for("the call to come", 120, lambda: bool(self.service.ask("GET", "/peers/chat")), ())


Fill = Callable[[World], Mapping[str, str]]


@dataclass(frozen=True)
class Case:
    """How the examples of one command are run.

    fill: prepares the state before each run; text in the example -> what to write instead. compute: on the compute
    provider's machine. codes: exit codes that are right. raw: what it prints is not data. stream: with `-o json` it
    prints JSON lines. runs_on: it does not end by itself; Ctrl-C is pressed once `runs_on` of the world is true.
    """

    fill: Fill = lambda _: {}
    compute: bool = False
    codes: tuple[int, ...] = (0,)
    raw: bool = False
    stream: bool = False
    runs_on: Callable[[World], bool] | None = None


def new_hash() -> str:
    return f"{next(_numbers):064x}"


def funded(world: World) -> Mapping[str, str]:
    world.provider()
    for name in ("job.json", "job.yaml"):  # JSON is YAML
        (world.service.folder / name).write_text(request_for(world.compute, "echo hello"))
    return {"<hash>": new_hash()}


def quoted(world: World) -> Mapping[str, str]:
    return {"<job-id>": world.job("echo hello", "--quote"), "<hash>": new_hash()}


def ended(world: World) -> Mapping[str, str]:
    return {"<job-id>": world.ended_job}


def with_results(world: World) -> Mapping[str, str]:
    """A job that printed figures and left a file is the newest, and all it left is here."""
    return {"0199": world.newest_job_with_results(), "-d out": f"-d {world.folder / f'out-{next(_numbers)}'}"}


def requested_again(world: World) -> Mapping[str, str]:
    """Paid with a hash that is given, since nobody is there to type it in."""
    world.newest_job_with_results()  # not one that runs for minutes
    return {"--wait": f"--wait --tx-hash {new_hash()}"}


def running(world: World) -> Mapping[str, str]:
    return {"<job-id>": world.job("sleep 100", "--tx-hash", new_hash())}


def onboarded(world: World) -> Mapping[str, str]:
    world.provider()
    return {"/var/nunet": str(world.compute.database.parent)}


def idle(world: World) -> Mapping[str, str]:
    """Onboarded, and none of the jobs that earlier examples left runs any more."""
    filled = onboarded(world)

    def none_runs() -> bool:
        jobs = world.compute.ask("GET", "/onboarding/offboard")["running_jobs"]
        for job in jobs:
            nunet(world.compute, "job", "stop", job["job_id"])
        return not jobs

    wait_for("the jobs to end", 120, none_runs, ())
    return filled


def offboarded(world: World) -> Mapping[str, str]:
    if world.compute.ask("GET", "/onboarding/status")["onboarded"]:
        idle(world)
        nunet(world.compute, "offboard", "--yes")
    return {"<address>": PAYMENT_ADDRESS}


def exported_path(world: World) -> Mapping[str, str]:
    folder = world.folder / f"export-{next(_numbers)}"
    folder.mkdir()
    return {
        **ended(world), "log.ndjson": str(folder / "log.ndjson"), "job.ndjson": str(folder / "job.ndjson"),
    }  # fmt: skip


def exported_log(world: World) -> Mapping[str, str]:
    places = exported_path(world)
    nunet(world.service, "events", "export", "-f", places["log.ndjson"])
    return {**places, "copy.db": str(Path(places["log.ndjson"]).with_name("copy.db"))}


def exports(world: World) -> Mapping[str, str]:
    """Of one job, from both sides."""
    folder = Path(exported_path(world)["log.ndjson"]).parent
    for name, node in (("sp", world.service), ("cp", world.compute)):
        nunet(node, "events", "export", "--job", world.ended_job, "-f", str(folder / f"{name}.ndjson"))
    places = {f"{name}.ndjson": str(folder / f"{name}.ndjson") for name in ("sp", "cp")}
    nunet(world.service, "events", "export", "-f", str(folder / "log.ndjson"))
    return {**places, **witnessed(world), "log.ndjson": str(folder / "log.ndjson")}


def witnessed(world: World) -> Mapping[str, str]:
    """Both sides of a job have signed the other's head."""
    places = ended(world)
    files = [node.database.with_name("heads.json") for node in world.network]
    wait_for(
        "heads to be signed", 120, lambda: all(f.is_file() and json.loads(f.read_bytes())["own"] for f in files), ()
    )
    return {**places, "/var/nunet": str(files[0].parent), "peer.json": str(files[1])}


def peer(world: World) -> Mapping[str, str]:
    return {"12D3KooW...": world.compute.peer_id}


def called(world: World) -> Mapping[str, str]:
    world.call()
    return {}


def two_offers(world: World) -> Mapping[str, str]:
    while len(world.service.ask("GET", "/peers/files", state="offered", direction="in")["items"]) < 2:
        world.offer(world.compute, world.service)
    return {}


def own_offer(world: World) -> Mapping[str, str]:
    return {"01990000-0000-7000-8000-000000000001": world.offer(world.service, world.compute)}


def stranger(_: World) -> Mapping[str, str]:
    return {"12D3KooW...": "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"}


def denied(world: World) -> Mapping[str, str]:
    places = stranger(world)
    nunet(world.service, "policy", "deny", "peer", *places.values())
    return places


def new_token(world: World) -> Mapping[str, str]:
    name = f"team-{next(_numbers)}"
    return {"team-a.token": str(world.folder / f"{name}.token"), "create team-a": f"create {name}",
            "create ops": f"create ops-{name}"}  # fmt: skip


def a_token(world: World) -> Mapping[str, str]:
    name = f"team-{next(_numbers)}"
    nunet(world.service, "token", "create", name, "--role", "read")
    return {"team-a": name}


def a_file(world: World) -> Mapping[str, str]:
    path = world.shared / "results.tar.gz"
    path.write_bytes(b"results")
    path.chmod(0o644)
    return {**peer(world), "results.tar.gz": str(path)}


def is_offered(world: World) -> bool:
    items = world.compute.ask("GET", "/peers/files", state="offered", direction="in")["items"]
    return any(row["name"] == "results.tar.gz" for row in items)


def somebody(world: World) -> Mapping[str, str]:
    """Known by the job alone that was run for them."""
    return {"<address>": world.job("true", "--tx-hash", new_hash(), "--wait")}


def paid(world: World) -> Mapping[str, str]:
    return {"0xab12": world.tx_hash} if world.ended_job else {}


def settled(world: World) -> Mapping[str, str]:
    """No reward that would have to be looked up on a chain, also when these tests take longer than five minutes."""
    places = paid(world)
    for row in world.service.ask("GET", "/transactions"):
        if row["ended_at"] and row["tx_hash"] != ERASED and row["transaction_type"] != DONE:
            body = {"tx_hash": row["tx_hash"], "transaction_status": "success"}
            world.service.ask("POST", "/transactions/send-status", body)
    return places


def policy(world: World) -> Mapping[str, str]:
    places = ended(world)
    (world.service.folder / "policy.json").write_text(json.dumps({"rates": {"low": "0.5"}}))
    return places


def free_place(world: World) -> Mapping[str, str]:
    """For a third daemon."""
    folder = world.folder / f"daemon-{next(_numbers)}"
    port, p2p_port = free_port(), free_port()
    world.folder.joinpath("daemon-port").write_text(str(port))
    listen = f"--set p2p.listen_address=/ip4/127.0.0.1/tcp/{p2p_port} --work-dir {folder}"
    return {"--rest-port 9999": f"--rest-port {port} {listen}", "/var/nunet": str(folder)}


def third_daemon_is_ready(world: World) -> bool:
    port = world.folder.joinpath("daemon-port").read_text()
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
        return True
    return False


CASES: dict[str, Case] = {
    "accept-file": Case(two_offers),
    "chat join": Case(called, raw=True),
    "chat start": Case(peer, raw=True),
    "file cancel": Case(own_offer),
    "peer default": Case(peer),
    "send-file": Case(a_file, codes=(130,), runs_on=is_offered),
    "transaction request-reward": Case(paid),
    "transaction send-status": Case(paid),
    "transaction sync": Case(settled),
    "audit heads": Case(witnessed),
    "audit verify": Case(exports),
    "autocomplete": Case(raw=True),
    "capacity": Case(onboarded, compute=True),
    "available": Case(onboarded, compute=True),
    "dashboard": Case(raw=True, codes=(0, 1)),  # where the test runs is no browser to be opened
    "device set": Case(onboarded, compute=True),
    "device status": Case(onboarded, compute=True),
    "diff": Case(ended),
    "earnings": Case(raw=True),  # one of its examples has a form of its own
    "erasure run": Case(somebody),
    "events export": Case(exported_path),
    "events import": Case(exported_log),
    "events tail": Case(ended, stream=True),
    "info": Case(onboarded, compute=True),
    "job describe": Case(ended),
    "job fund": Case(quoted),
    "job history": Case(ended),
    "job logs": Case(ended, stream=True),
    "job plot": Case(with_results),
    "job rerun": Case(requested_again),
    "job results": Case(with_results),
    "job run": Case(funded),
    "job stop": Case(running),
    "job verify": Case(ended),
    "job why": Case(ended),
    # There is neither a terminal nor root's file: what they do is tried in tests/integration/test_key_passphrase.py.
    "key encrypt": Case(codes=(2,)),
    "offboard": Case(idle, compute=True),
    "onboard": Case(offboarded, compute=True),
    "onboard-ml": Case(codes=(5,)),  # images are only used with Docker
    "policy allow": Case(stranger),
    "policy deny": Case(stranger),
    "policy remove": Case(denied),
    "replay": Case(policy),
    "resource-config": Case(onboarded, compute=True),
    "run": Case(free_place, runs_on=third_daemon_is_ready),
    "token create": Case(new_token),
    "token revoke": Case(a_token),
    "usage": Case(ended, compute=True),
    "top": Case(raw=True, codes=(0, 2)),  # the test has no terminal
    "shell": Case(lambda world: {"<peer-id>": world.compute.peer_id}, codes=(1,)),
}


# --- from the tree ---------------------------------------------------------------------------------


def every_command(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path), group
    for name, found in group.commands.items():
        if isinstance(found, click.Group):
            yield from every_command(found, (*path, name))
        else:
            yield " ".join((*path, name)), found


def examples_of(found: click.Command) -> list[str]:
    lines = (found.epilog or "").partition("Example:")[2].splitlines()
    return [line.strip() for line in lines if line.strip()]


def command_of(example: str) -> str:
    """The command that an example calls: its path in the tree."""
    path: list[str] = []
    found: click.Command = cli
    for word in shlex.split(example)[1:]:
        if not isinstance(found, click.Group) or word not in found.commands:
            break
        found = found.commands[word]
        path.append(word)
    return " ".join(path)


EXAMPLES = sorted({example for _, found in every_command(cli) for example in examples_of(found)})


@pytest.mark.parametrize("name", [name for name, _ in every_command(cli)])
def test_every_command_has_an_example(name: str) -> None:
    found = dict(every_command(cli))[name]
    examples = examples_of(found)
    assert examples, f"nunet {name} has no example: give one to `command(...)` or `Group(...)`"
    for example in examples:
        assert example.startswith(f"nunet {name}".strip()), f"nunet {name} --help shows another command: {example}"


def test_every_case_is_of_a_command() -> None:
    assert set(CASES) - {name for name, _ in every_command(cli)} == set()


# --- the walk --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("examples")
    with running_network(folder) as network, contextlib.ExitStack() as closing:
        world = World(network, folder, shell_environment(folder / "bin"), closing)
        world.shared.chmod(0o755)
        yield world


FORMS = ("json", "jsonl", "yaml")


# Three networks on three workers take a third of the time.
@pytest.mark.parametrize(
    "example", [pytest.param(e, marks=pytest.mark.xdist_group(f"examples {n % 3}")) for n, e in enumerate(EXAMPLES)]
)
def test_an_example_does_what_it_says(world: World, example: str) -> None:
    case = CASES.get(command_of(example), Case())
    shown = run(world, case, example)
    assert "Traceback" not in shown.stderr
    if case.raw or case.runs_on is not None or case.codes != (0,):
        return
    form = FORMS[EXAMPLES.index(example) % len(FORMS)]  # one code makes all three of the same answer
    done = run(world, case, _OWN_FORMAT.sub("", example).replace("nunet ", f"nunet -o {form} ", 1))
    if shown.stdout.strip() not in ("", "[]"):
        assert done.stdout.strip(), f"{example} prints data, but nothing with -o {form}"
    if done.stdout.strip():
        parsed(done.stdout, "jsonl" if case.stream and form == "json" else form)


def parsed(text: str, form: str) -> Any:
    """Fails the test when it is not of that form."""
    if form == "yaml":
        found = list(yaml.safe_load_all(text))
        assert all(isinstance(document, dict | list) for document in found), text
        return found
    return [json.loads(line) for line in text.splitlines()] if form == "jsonl" else json.loads(text)


_NEEDS_SHELL = re.compile(r"[|;&$`*~]")


def run(world: World, case: Case, example: str) -> subprocess.CompletedProcess[str]:
    """In a folder whose dms_config.json is the node's. Fails the test on another exit code. Without a shell where it
    needs none and ends by itself, which is quicker."""
    text = example
    for old, new in case.fill(world).items():
        text = text.replace(old, new)
    left = re.findall(r"<[a-z-]+>", text)
    assert not left, f"`{example}` has the placeholders {left}: give the command a Case in {Path(__file__).name}"
    node = world.compute if case.compute else world.service
    by_shell = case.runs_on is not None or _NEEDS_SHELL.search(text)
    done = typed(world, case, text, node) if by_shell else called_directly(world, text, node)
    assert done.returncode in case.codes, (
        f"`{text}` ended with {done.returncode}; if it needs a state, give it a Case in {Path(__file__).name}\n"
        f"{done.stdout}\n{done.stderr}"
    )
    return done


def called_directly(world: World, text: str, node: Node) -> subprocess.CompletedProcess[str]:
    """What it writes is looked at, wherever the example puts it."""
    command, _, file = text.partition(" > ")[0].partition(" < ")
    given = (node.folder / file).read_text() if file else ""
    return prepared.run(shlex.split(command)[1:], world.env, given, cwd=node.folder)


def typed(world: World, case: Case, text: str, node: Node) -> subprocess.CompletedProcess[str]:
    with subprocess.Popen(
        ["bash", "-c", f"exec {text}"],
        cwd=node.folder, env=world.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        try:
            if (runs_on := case.runs_on) is not None:
                wait_for(f"`{text}` to run", 120, lambda: process.poll() is not None or runs_on(world), ())
                process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=120)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(text, process.returncode, out, err)
