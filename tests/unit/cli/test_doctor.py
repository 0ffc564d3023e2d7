"""`nunet doctor` against a tiny daemon: what it prints, and what it exits with."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.cli.nunet import nunet
from tests.unit.cli.tiny_dms import TinyDms

PATH = "POST /device/doctor"
PASSED = {"name": "network", "state": "passed", "found": "reaches only itself", "advice": "", "required": True}
FAILED = {"name": "memory", "state": "failed", "found": "four times", "advice": "swapoff", "required": True}
CLOCK = {"name": "clock", "state": "warning", "found": "nothing keeps it", "advice": "set-ntp", "required": False}


def examination(verdict: str, *sandbox: dict[str, Any], trouble: str = "") -> dict[str, Any]:
    return {
        "verdict": verdict, "trouble": trouble, "engine": "Docker 20", "sandbox": list(sandbox), "machine": [CLOCK],
    }  # fmt: skip


def test_a_table_has_each_row_and_below_it_what_to_do(tiny: TinyDms) -> None:
    tiny.answers[PATH] = (200, examination("warning", PASSED))
    done = nunet("doctor", tiny=tiny)
    assert done.exit_code == 0
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["NAME", "STATE"], ["network", "passed"], ["clock", "warning"],
    ]  # fmt: skip
    assert "clock: set-ntp" in done.stderr
    assert "Checking this machine" in done.stderr


def test_what_failed_is_the_exit_code_and_says_that_no_job_is_taken(tiny: TinyDms) -> None:
    tiny.answers[PATH] = (200, examination("failed", PASSED, FAILED, trouble="memory: four times"))
    done = nunet("doctor", tiny=tiny)
    assert done.exit_code == 1
    assert "memory: swapoff" in done.stderr
    assert "no peer's job is taken: memory: four times" in done.stderr


def test_programs_get_the_whole_and_nothing_else(tiny: TinyDms) -> None:
    found = examination("failed", FAILED)
    tiny.answers[PATH] = (200, found)
    done = nunet("doctor", "-o", "json", tiny=tiny)
    assert (json.loads(done.stdout), done.stderr, done.exit_code) == (found, "", 1)


def test_a_daemon_elsewhere_that_does_not_answer_is_not_replaced_by_this_machine() -> None:
    assert nunet("doctor", DMS_URL="http://127.0.0.1:9").exit_code == 7
