"""`nunet job run`: a quote, its payment, and the job to its end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.cli.nunet import COMPLETED, CONNECTED, FAILED, JOB, OFFER, REQUEST, SUBMITTED, line, nunet
from tests.unit.cli.tiny_dms import CUT, HEAR, TinyDms


def offering(tiny: TinyDms, job: dict[str, Any] | None = None) -> None:
    tiny.answers["POST /run/request-service"] = (200, OFFER)
    tiny.answers[f"GET /jobs/{JOB}"] = (200, {"job_id": JOB, "status": "completed", "exit_code": 0} | (job or {}))


def test_run_reports_the_payment_and_prints_the_job_id(tiny: TinyDms, request_file: str) -> None:
    offering(tiny)
    tiny.scripts = [[CONNECTED, HEAR, SUBMITTED]]
    result = nunet("job", "run", request_file, "--tx-hash", "5a3f", tiny=tiny)
    assert (result.exit_code, result.stdout) == (0, f"{JOB}\n")
    assert "0.02 NTX, provider 12D3KooWProvider" in result.stderr
    assert tiny.asked[0] == ("POST /run/request-service", {}, REQUEST)
    assert tiny.sockets == [{"job_id": JOB, "after": "0", "log_after": "0"}]
    paid = {"transaction_type": "fund", "transaction_status": "success", "tx_hash": "5a3f", "job_id": JOB}
    assert tiny.heard == [{"action": "send-status", "message": paid}]


def test_what_may_be_a_mistake_is_told_before_the_payment_and_refused_when_strict(
    tiny: TinyDms, request_file: str
) -> None:
    offering(tiny)
    warning = {"pointer": "/blokchain", "detail": "unknown key; did you mean blockchain?"}
    tiny.answers["POST /run/request-service"] = (200, OFFER | {"warnings": [warning]})
    result = nunet("job", "run", request_file, "--quote", tiny=tiny)
    assert (result.exit_code, tiny.asked[-1][1]) == (0, {})
    assert result.stderr.startswith("warning: /blokchain: unknown key; did you mean blockchain?\n")
    nunet("job", "run", request_file, "--quote", "--strict", tiny=tiny)
    assert tiny.asked[-1][1] == {"strict": "true"}


@pytest.mark.parametrize(("given", "sent"), [("mine.tar.gz", "mine.tar.gz"), (JOB, f"{JOB}.tar.gz")])
def test_run_goes_on_from_a_checkpoint_or_from_that_of_a_job(
    tiny: TinyDms, request_file: str, given: str, sent: str
) -> None:
    offering(tiny)
    result = nunet("job", "run", request_file, "--resume", given, "--quote", tiny=tiny)
    assert result.exit_code == 0
    params = REQUEST["params"] | {"resume_job": {"resume": True, "progress_file": sent}}  # type: ignore[operator]
    assert tiny.asked[0] == ("POST /run/request-service", {}, REQUEST | {"params": params})


def test_wait_passes_on_both_streams_and_the_exit_code(tiny: TinyDms, request_file: str) -> None:
    offering(tiny, {"status": "failed", "exit_code": 3})
    tiny.scripts = [[CONNECTED, HEAR, SUBMITTED, line(1, "stdout", "out"), line(2, "stderr", "err"), FAILED]]
    result = nunet("job", "run", request_file, "--tx-hash", "5a3f", "--wait", tiny=tiny)
    assert (result.exit_code, result.stdout) == (3, "out\n")
    lines = result.stderr.splitlines()
    assert "err" in lines
    assert lines[-1] == f"error: job {JOB} failed: finished with errors: exit code 3"


def test_a_lost_connection_loses_and_doubles_nothing(tiny: TinyDms, request_file: str) -> None:
    offering(tiny)
    tiny.scripts = [
        [CONNECTED, HEAR, CUT],
        [CONNECTED, HEAR, SUBMITTED, line(1, "stdout", "one"), line(2, "stdout", "two"), CUT],
        [CONNECTED, line(2, "stdout", "two"), line(3, "stdout", "three"), COMPLETED],
    ]
    result = nunet("job", "run", "-", "--tx-hash", "5a3f", "-f", tiny=tiny, stdin=json.dumps(REQUEST))
    assert (result.exit_code, result.stdout) == (0, "one\ntwo\nthree\n")
    assert [(socket["after"], socket["log_after"]) for socket in tiny.sockets] == [("0", "0"), ("0", "0"), ("5", "2")]
    assert len(tiny.heard) == 2  # the payment is reported until the job is submitted, and not after


@pytest.mark.parametrize(
    ("job", "code"),
    [
        ({"exit_code": 137, "started_at": 1}, 137),
        ({"exit_code": 0, "started_at": 1}, 1),  # stopped, and the container ended well
        ({"exit_code": None, "started_at": 1}, 1),  # the provider was lost
        ({"exit_code": None, "started_at": 0}, 125),
    ],
)
def test_the_code_tells_how_the_job_failed(tiny: TinyDms, request_file: str, job: dict[str, Any], code: int) -> None:
    offering(tiny, {"status": "failed"} | job)
    tiny.scripts = [[CONNECTED, HEAR, SUBMITTED, FAILED]]
    assert nunet("job", "run", request_file, "--tx-hash", "5a3f", "--wait", tiny=tiny).exit_code == code


def test_waiting_has_an_end(tiny: TinyDms, request_file: str) -> None:
    offering(tiny)
    tiny.scripts = [[CONNECTED, HEAR, SUBMITTED]]
    result = nunet("job", "run", request_file, "--tx-hash", "5a3f", "--wait", "--timeout", "0.2s", tiny=tiny)
    assert result.exit_code == 124
    assert f"nunet job logs --follow {JOB}" in result.stderr


def test_nobody_fits_is_a_code_of_its_own(tiny: TinyDms, request_file: str) -> None:
    tiny.answers["POST /run/request-service"] = (404, {"error": "no peers found with matched specs: a reason"})
    result = nunet("job", "run", request_file, "--tx-hash", "5a3f", tiny=tiny)
    assert result.exit_code == 6
    assert "a reason" in result.stderr


def test_without_a_payment_the_quote_stays_open(tiny: TinyDms, request_file: str) -> None:
    offering(tiny)
    result = nunet("job", "run", request_file, tiny=tiny)
    assert result.exit_code == 2
    assert JOB in result.stdout
    assert f"nunet job fund {JOB} --tx-hash" in result.stderr
    assert tiny.sockets == []
    assert nunet("job", "run", request_file, "--quote", tiny=tiny).exit_code == 0


def test_a_quote_is_funded_later(tiny: TinyDms) -> None:
    offering(tiny, {"status": "awaiting"})
    tiny.scripts = [[CONNECTED, HEAR, SUBMITTED, COMPLETED]]
    result = nunet("job", "fund", JOB, "--tx-hash", "77", "--wait", "-o", "json", tiny=tiny)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["job_id"] == JOB
    assert tiny.heard[0]["message"]["tx_hash"] == "77"


@pytest.mark.parametrize("status", ["submitted", "running", "failed", "completed"])
def test_a_job_that_awaits_no_payment_is_not_paid_again(tiny: TinyDms, status: str) -> None:
    offering(tiny, {"status": status})
    tiny.scripts = [[CONNECTED, HEAR, SUBMITTED, COMPLETED]]
    result = nunet("job", "fund", JOB, "--tx-hash", "77", tiny=tiny)
    assert (result.exit_code, result.stdout, tiny.heard) == (5, "", [])
    assert f"awaits no payment: it is {status}" in result.stderr


def test_trust_says_that_nothing_is_paid(tiny: TinyDms, request_file: str) -> None:
    offering(tiny)
    tiny.scripts = [[CONNECTED, HEAR, SUBMITTED]]
    result = nunet("job", "run", request_file, "--trust", tiny=tiny)
    assert result.exit_code == 0
    assert "nothing is paid" in result.stderr
    assert tiny.heard[0]["message"]["tx_hash"] == f"unpaid-{JOB}"


def test_a_refused_payment_is_an_error(tiny: TinyDms, request_file: str) -> None:
    offering(tiny)
    tiny.scripts = [[CONNECTED, HEAR, {"action": "error", "message": "tx_hash is missing"}]]
    result = nunet("job", "run", request_file, "--tx-hash", "5a3f", tiny=tiny)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == "error: tx_hash is missing"


@pytest.mark.parametrize(("text", "says"), [("{", "<stdin>:1:2"), ("[]", "expected an object"), ("\xff", "1:1")])
def test_a_broken_request_is_wrong_usage(text: str, says: str) -> None:
    result = nunet("job", "run", "-", "--trust", stdin=text)
    assert result.exit_code == 2
    assert says.replace("<stdin>", "standard input") in result.stderr
