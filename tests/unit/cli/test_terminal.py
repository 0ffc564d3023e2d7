"""The command `nunet` at a real terminal (a pty), in a pipe that closes, and when Ctrl-C is pressed."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.fixtures.network import environment
from tests.fixtures.terminal import Terminal, terminal
from tests.unit.cli.nunet import COMPLETED, CONNECTED, FAILED, JOB, JOBS, OFFER, REQUEST, SUBMITTED, line
from tests.unit.cli.tiny_dms import HEAR, WAIT, TinyDms

ONBOARD = ("onboard", "-m", "4000", "-c", "8000", "-n", "nunet-test", "-a", "addr1")


@contextlib.contextmanager
def nunet_at(tiny: TinyDms, *args: str, columns: int = 80, env: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    given = environment(DMS_URL=tiny.url, TERM="xterm-256color") | dict(env or {})
    with terminal([sys.executable, "-m", "dms.cli", *args], given, columns) as made:
        yield made


# --- questions -------------------------------------------------------------------------------------


def test_onboarding_asks_for_what_is_missing(tiny: TinyDms) -> None:
    tiny.answers["GET /onboarding/status"] = (200, {"onboarded": False})
    tiny.answers["POST /onboarding/onboard"] = (200, {"name": "host"})
    with nunet_at(tiny, "onboard", "-c", "8000") as shell:
        shell.expect("Memory to offer, MB")
        shell.type("4000\r")
        shell.expect("Channel")
        shell.type("\r")
        shell.expect("Address")
        shell.type("addr1\r")
        assert shell.end() == 0
    sent = tiny.asked[-1][2]
    assert (sent["memory"], sent["cpu"], sent["channel"], sent["payment_addr"]) == (4000, 8000, "nunet-test", "addr1")


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "code"), [("y\r", 0), ("n\r", 1), ("\r", 1)])
def test_onboarding_again_asks_first(tiny: TinyDms, typed: str, code: int) -> None:
    tiny.answers["GET /onboarding/status"] = (200, {"onboarded": True})
    tiny.answers["POST /onboarding/onboard"] = (200, {})
    with nunet_at(tiny, *ONBOARD) as shell:
        shell.expect("Looks like your machine is already onboarded. Proceed with reonboarding?")
        shell.type(typed)
        assert shell.end() == code
        assert ("reonboarding aborted by user" in shell.shown) == bool(code)
    assert (tiny.asked[-1][0] == "POST /onboarding/onboard") == (not code)


def test_offboarding_asks_first_and_ctrl_c_means_no(tiny: TinyDms) -> None:
    tiny.answers["GET /onboarding/offboard"] = (200, {"means": ["2 job(s) run here"]})
    tiny.answers["POST /onboarding/offboard"] = (200, {"message": "Successfully Offboarded"})
    with nunet_at(tiny, "offboard") as shell:
        shell.expect("2 job(s) run here")
        shell.expect("Are you sure you want to offboard?")
        shell.interrupt()
        assert shell.end() == 130
    assert [asked for asked, _, _ in tiny.asked] == ["GET /onboarding/offboard"]
    with nunet_at(tiny, "offboard") as shell:
        shell.expect("Are you sure you want to offboard?")
        shell.type("y\r")
        assert shell.end() == 0


def test_a_payment_is_typed_in(tiny: TinyDms, tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(REQUEST))
    tiny.answers["POST /run/request-service"] = (200, OFFER)
    tiny.scripts = [[CONNECTED, HEAR, SUBMITTED]]
    with nunet_at(tiny, "job", "run", str(path)) as shell:
        shell.expect("type the transaction's hash")
        shell.type("5a3f\r")
        assert shell.end() == 0
        assert shell.shown.rstrip().endswith(JOB)
    assert tiny.heard[0]["message"]["tx_hash"] == "5a3f"


# --- what a terminal shows -------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [20, 80])
def test_a_narrow_terminal_breaks_no_id(tiny: TinyDms, columns: int) -> None:
    tiny.answers["GET /jobs"] = (200, {"items": JOBS, "next_token": ""})
    with nunet_at(tiny, "job", "list", columns=columns) as shell:
        assert shell.end() == 0
        assert JOB in shell.shown
        assert len(shell.shown.splitlines()) == 1 + len(JOBS)


@pytest.mark.parametrize(
    ("args", "env", "styled"),
    [
        ((), {}, True),
        ((), {"NO_COLOR": "1"}, False),
        (("--no-color",), {}, False),
        ((), {"TERM": "dumb"}, False),
    ],
)
@pytest.mark.slow
def test_colours_only_where_they_are_wanted(tiny: TinyDms, args: tuple[str], env: dict[str, str], styled: bool) -> None:
    tiny.answers["GET /jobs"] = (200, {"items": JOBS, "next_token": ""})
    with nunet_at(tiny, *args, "job", "list", env=env) as shell:
        assert shell.end() == 0
        assert ("\x1b[" in shell.shown) == styled


# --- pipes and Ctrl-C --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "yaml"])
@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error_to_speak_of(tiny: TinyDms, form: str) -> None:
    rows = [
        {"job_id": f"{number:036}", "role": "sp", "status": "failed", "image": "x" * 1000} for number in range(1000)
    ]
    tiny.answers["GET /jobs"] = (200, {"items": rows, "next_token": ""})
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m dms.cli -o {form} job list | head -1"],
        env=environment(DMS_URL=tiny.url), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_ctrl_c_while_a_job_runs_says_how_to_go_on(tiny: TinyDms, tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(REQUEST))
    tiny.answers["POST /run/request-service"] = (200, OFFER)
    tiny.scripts = [[CONNECTED, HEAR, SUBMITTED]]
    with nunet_at(tiny, "job", "run", str(path), "--tx-hash", "5a3f", "--wait") as shell:
        shell.expect("payment counts")
        shell.interrupt()
        assert shell.end() == 130
        assert f"nunet job logs -f {JOB}" in shell.shown
        assert f"nunet job stop {JOB}" in shell.shown
        assert not re.search(r"Traceback|KeyboardInterrupt", shell.shown)


def test_ctrl_c_held_down_is_an_interruption_too(tiny: TinyDms) -> None:
    tiny.answers["POST /run/request-service"] = (200, OFFER)
    tiny.scripts = [[CONNECTED, HEAR, SUBMITTED]]
    with nunet_at(tiny, "job", "run", "--image", "a", "--tx-hash", "5a3f", "--wait") as shell:
        shell.expect("payment counts")
        shell.hold_interrupt()
        assert shell.end() == 130


def growing(text: str) -> dict[str, object]:
    return {"action": "log-progress", "job_id": JOB, "stream": "stderr", "text": text}


def test_a_terminal_shows_where_the_job_is_below_its_output(tiny: TinyDms) -> None:
    response = {"success": True, "content": "http://x"}
    tiny.answers["POST /run/request-service"] = (200, OFFER)
    tiny.answers[f"GET /jobs/{JOB}"] = (200, {"job_id": JOB, "status": "completed", "exit_code": 0})
    tiny.scripts = [
        [
            CONNECTED, HEAR, SUBMITTED, {"action": "deployment-response", "message": response, "position": 6},
            line(1, "stdout", "epoch \x1b[2J1"), growing("50%|#####     |"), WAIT,
            line(2, "stderr", "0%\r50%\r100%|##########|"), COMPLETED,
        ]
    ]  # fmt: skip
    with nunet_at(tiny, "job", "run", "--image", "a", "--tx-hash", "5a3f", "--wait", columns=160) as shell:
        shell.expect("50%|#####     |")
        for text in ("running 0:", "0.02 NTX", "Ctrl-C", f"job {JOB}", "provider 12D3KooWProvi"):
            shell.expect(text)
        assert "epoch \\x1b[2J1" in shell.shown
        tiny.go_on.set()
        assert shell.end() == 0
        assert "100%|##########|" in shell.shown
    assert tiny.sockets[0]["progress"] == "true"


def test_a_terminal_shows_each_step_with_its_duration_above_the_output(tiny: TinyDms) -> None:
    def at(second: int, **frame: object) -> dict[str, object]:
        return {**frame, "job_id": JOB, "position": second, "time": f"2026-01-31T12:00:{second:02}+00:00"}

    tiny.answers["POST /run/request-service"] = (200, OFFER)
    tiny.answers[f"GET /jobs/{JOB}"] = (200, {"job_id": JOB, "status": "completed", "exit_code": 0})
    tiny.scripts = [
        [
            CONNECTED, HEAR, at(10, action="job-submitted"),
            at(11, action="input-started", number=1, path="data.csv", message="input 1, data.csv is being fetched"),
            WAIT,
            at(14, action="input-done", number=1, path="data.csv", message="input 1, data.csv: 5 bytes, fetched"),
            at(20, action="deployment-response", message={"success": True, "content": "http://x"}),
            line(1, "stdout", "epoch 1"),
            at(30, action="checkpoint-received", number=1, message="checkpoint 1 is kept here: 5 bytes"),
            at(50, action="job-completed"),
        ]
    ]  # fmt: skip
    run = ("job", "run", "--image", "a", "--input", "http://x/data.csv", "--tx-hash", "5a3f", "--wait")
    with nunet_at(tiny, *run, columns=160) as shell:
        shell.see(lambda lines: any("input 1 of 1: data.csv" in text and "at most 10" in text for text in lines))
        tiny.go_on.set()
        assert shell.end() == 0
        left = [text for text in shell.lines if text]
    assert left[-5:] == [
        "✔ input 1, data.csv: 5 bytes, fetched  3.0 s",
        "✔ container started  10.0 s",
        "epoch 1",
        "✔ checkpoint 1 is kept here: 5 bytes",
        "✔ completed  30.0 s",
    ]


def test_ctrl_c_on_a_terminal_may_stop_the_job_and_waits_for_its_end(tiny: TinyDms) -> None:
    tiny.answers[f"POST /jobs/{JOB}/stop"] = (200, {"message": "told"})
    with asked_to_stop(tiny, {"status": "failed", "exit_code": 143}, FAILED) as shell:
        assert shell.end() == 143
    assert [path for path, _, _ in tiny.asked if path.startswith("POST /jobs")] == [f"POST /jobs/{JOB}/stop"]


def test_a_job_that_ends_before_it_is_told_to_stop_ends_as_it_did(tiny: TinyDms) -> None:
    tiny.answers[f"POST /jobs/{JOB}/stop"] = (409, {"error": "the job is over"})
    with asked_to_stop(tiny, {"status": "completed", "exit_code": 0}, COMPLETED) as shell:
        shell.expect("it is not stopped: the job is over")
        assert shell.end() == 0


@contextlib.contextmanager
def asked_to_stop(tiny: TinyDms, end: Mapping[str, object], last: Mapping[str, object]) -> Iterator[Terminal]:
    """A command that follows a job, at the moment where Ctrl-C was pressed and its question answered with yes."""
    tiny.answers["POST /run/request-service"] = (200, OFFER)
    tiny.answers[f"GET /jobs/{JOB}"] = (200, {"job_id": JOB, **end})
    tiny.scripts = [[CONNECTED, HEAR, SUBMITTED], [CONNECTED, last]]
    with nunet_at(tiny, "job", "run", "--image", "a", "--tx-hash", "5a3f", "--wait") as shell:
        shell.expect("payment counts")
        shell.type("\x03")
        shell.expect("Stop the job too?")
        shell.type("y\r")
        yield shell


def test_a_pipe_gets_plain_lines(tiny: TinyDms) -> None:
    tiny.answers["POST /run/request-service"] = (200, OFFER)
    tiny.answers[f"GET /jobs/{JOB}"] = (200, {"job_id": JOB, "status": "completed", "exit_code": 0})
    tiny.scripts = [[CONNECTED, HEAR, SUBMITTED, growing("1%"), line(1, "stdout", "0%\r9%"), COMPLETED]]
    done = subprocess.run(
        [sys.executable, "-m", "dms.cli", "job", "run", "--image", "a", "--tx-hash", "5a3f", "--wait"],
        env=environment(DMS_URL=tiny.url), capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout == b"0%\r9%\n"
    assert b"1%" not in done.stderr
    assert b"\x1b" not in done.stderr


def until_asleep(pid: int) -> None:
    """Python looks for signals just before it waits: one that comes between the two is heard once the wait is over."""
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        time.sleep(0.01)


def test_an_interrupt_while_the_daemon_thinks_ends_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(120)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            [sys.executable, "-m", "dms.cli", "info"], env=environment(DMS_URL=url), stderr=subprocess.PIPE, text=True
        ) as waiting:
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(10)  # its question: now it waits for the answer
                until_asleep(waiting.pid)
                waiting.send_signal(signal.SIGINT)
                assert waiting.wait(120) == 130
            assert waiting.stderr is not None
            assert waiting.stderr.read().strip() == "interrupted"
