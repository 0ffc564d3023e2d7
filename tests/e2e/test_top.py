"""`nunet top` at a real terminal, of real nodes: what moves there, what can be done, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from ops.nodes import Node, wait_for
from tests.fixtures.network import (
    Network,
    environment,
    nunet,
    nunet_json,
    request_for,
    running_network,
    start,
)
from tests.fixtures.terminal import Terminal, terminal

pytestmark = [pytest.mark.slow]
WHOLE_SCREEN, GIVEN_BACK = "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with running_network(tmp_path_factory.mktemp("network")) as network:
        yield network


@contextmanager
def top(node: Node, *args: str, columns: int = 120, **env: str) -> Iterator[Terminal]:
    command = [sys.executable, "-m", "dms.cli", "--config", str(node.config), "top", *args]
    with terminal(command, environment(TERM="xterm-256color", LANG="C.UTF-8", **env), columns) as shell:
        yield shell


def ask_for(network: Network, script: str) -> str:
    """The id of a job that runs."""
    request = request_for(network.compute, script)
    return nunet(network.service, "job", "run", "-", "--tx-hash", uuid4().hex, stdin=request).stdout.strip()


def line_of(job_id: str, lines: Sequence[str]) -> str:
    """Of the list; empty while it is not there."""
    return next((line for line in lines[1:-2] if job_id[:13] in line), "")


def test_a_running_job_is_seen_to_begin_to_move_and_to_end(network: Network) -> None:
    with top(network.compute) as shell:
        shell.see_text("live · position")
        lines = shell.see_text("takes jobs")
        assert "nunet top · provider" in lines[0]
        assert re.search(r"CPU +\[.*\] 0 of [\d,]+ MHz held", "\n".join(lines))
        job_id = ask_for(network, "sleep 600")
        shell.see(lambda lines: "running" in line_of(job_id, lines))
        shell.see_text("500 of")  # MHz held
        shell.see(lambda lines: re.search(r"running .* 0:0[1-9]|running .* 0:[1-9]\d", line_of(job_id, lines)))
        nunet(network.service, "job", "stop", job_id)
        shell.see(lambda lines: "stopped" in line_of(job_id, lines) or "failed" in line_of(job_id, lines))
        shell.see_text("CPU     [")
        shell.see(lambda lines: any(re.match(r"CPU .* 0 of ", line) for line in lines))
        shell.type("q")
        assert shell.end() == 0
        assert shell.shown.rstrip().endswith(GIVEN_BACK)


def test_the_output_of_a_job_is_opened_and_followed(network: Network, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"seq 3000; echo bad >&2; until [ -e {go} ]; do sleep 0.05; done; printf 'last\\033[2J\\n'"
    job_id = ask_for(network, script)
    with top(network.service, "--side", "requester") as shell:
        shell.see(lambda lines: "running" in line_of(job_id, lines))
        shell.type("\r")
        lines = shell.see_text("! bad")
        assert "  3000" in lines
        assert "1,001 lines stand before these" in lines[2]
        shell.type("\x1b[5~")
        shell.see_text("newer lines below")
        go.touch()
        shell.type("f")
        shell.see_text("  last\\x1b[2J")
        shell.see(lambda lines: lines[1].endswith("completed"))
        shell.type("\x1b")
        shell.see(lambda lines: "completed" in line_of(job_id, lines))
        shell.type("q")
        assert shell.end() == 0


def test_a_job_is_stopped_from_the_list_after_a_question(network: Network) -> None:
    job_id = ask_for(network, "sleep 100")
    with top(network.service, "--side", "requester", columns=80) as shell:
        shell.see(lambda lines: "running" in line_of(job_id, lines))
        shell.type("x")
        shell.see_text(f"Stop job {job_id[:13]}?")
        shell.type("n")
        shell.see(lambda lines: "q quit" in lines[-1])
        assert nunet_json(network.service, "job", "describe", job_id)["status"] == "running"
        shell.type("x")
        shell.see_text("Stop job")
        shell.type("y")
        shell.see(lambda lines: "failed" in line_of(job_id, lines))
        shell.type("k")
        shell.see(lambda lines: lines[-2] == f"{job_id}  terminated by its owner")
        shell.type("q")
        assert shell.end() == 0


def test_it_goes_on_by_itself_when_the_daemon_was_killed_and_started_again(network: Network) -> None:
    node = network.compute
    with top(node) as shell:
        before = position_of(shell.see_text("live · position"))
        node.process.kill()
        node.process.wait(60)
        shell.see_text("reconnecting, last seen")
        assert "live" not in shell.lines[0]
        with node.log.open("ab") as log:
            node.process = start(["--config", str(node.config), "run"], log, environment())
        wait_for("the node to be ready", 120, node.ready, [node])
        nunet(node, "device", "set", "offline")
        shell.see_text("takes no jobs: the provider is offline; change that with: nunet device set online")
        assert position_of(shell.see_text("live · position")) > before
        nunet(node, "device", "set", "online")
        shell.see(lambda lines: lines[1].endswith("takes jobs"))
        shell.type("q")
        assert shell.end() == 0


def position_of(lines: Sequence[str]) -> int:
    found = re.search(r"position ([\d,]+)", lines[0])
    assert found is not None
    return int(found[1].replace(",", ""))


def test_a_terminal_of_another_size_is_filled_anew(network: Network) -> None:
    with top(network.compute) as shell:
        shell.see_text("? help")
        shell.resize(60, 12)
        shell.see(lambda lines: len(lines) == 12 and lines[-1].startswith("q quit") and "live" in lines[0])
        assert all(len(line) <= 60 for line in shell.lines)
        shell.resize(200, 50)
        shell.see(lambda lines: len(lines) == 50 and lines[-1].startswith("q quit") and "0.0" not in lines[-1])
        shell.type("?")
        shell.see_text("draw anew")
        shell.type("q")
        shell.see_text("? help")
        shell.type("q")
        assert shell.end() == 0


@pytest.mark.parametrize(("how", "code"), [("\x03", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_however_it_ends_the_terminal_is_given_back(network: Network, how: str | signal.Signals, code: int) -> None:
    with top(network.compute) as shell:
        before = shell.modes
        shell.see_text("live")
        assert shell.modes != before
        if isinstance(how, str):
            shell.type(how)
        else:
            shell.signal(how)
        assert shell.end() == code
        assert shell.modes == before
        shown = shell.shown[shell.shown.rindex(GIVEN_BACK) :]
        assert "Traceback" not in shown
        for given_back in ("\x1b[?25h", "\x1b[?7h"):
            assert shell.shown.rindex(given_back) > shell.shown.rindex(WHOLE_SCREEN)


def test_no_colours_with_no_color(network: Network) -> None:
    with top(network.compute, NO_COLOR="1") as shell:
        shell.see_text("takes jobs")
        shell.type("q")
        assert shell.end() == 0
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shell.shown)


def test_one_frame_is_printed_as_text_and_as_data(network: Network) -> None:
    shown = nunet(network.compute, "top", "--once").stdout
    assert "\x1b" not in shown
    assert re.search(r"nunet top · provider .* live · position", shown)
    assert "takes jobs" in shown
    data = json.loads(nunet(network.compute, "top", "-o", "json").stdout)
    assert data["machine"]["accepting"] is True
    assert data["position"] > 0
    assert {job["role"] for job in data["jobs"]} <= {"compute provider"}


def test_without_a_terminal_it_says_what_to_do(network: Network) -> None:
    refused = nunet(network.compute, "top", code=2)
    assert "the live view needs a terminal" in refused.stderr
    assert "nunet top -o json" in refused.stderr


def test_without_a_daemon_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dms.cli", "--url", "http://127.0.0.1:1", "top", "--once"],
        env=environment(), capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 7
    assert "nothing answers" in done.stderr
    assert done.stdout == ""
