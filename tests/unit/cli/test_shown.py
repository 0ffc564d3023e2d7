"""The command `nunet`: what it shows, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dms.adapters.nats.reader import event_of
from dms.cli.text import output_line, printable
from dms.errors import Conflict
from tests.unit.cli.nunet import JOB, JOBS, nunet
from tests.unit.cli.tiny_dms import TinyDms


def test_a_list_is_a_table_or_a_document_or_lines(tiny: TinyDms) -> None:
    tiny.answers["GET /jobs"] = (200, {"items": JOBS, "next_token": ""})
    table = nunet("job", "list", tiny=tiny).stdout
    assert table.splitlines()[0].split() == ["JOB", "ROLE", "STATUS", "REQUESTED", "EXIT", "PRICE", "COST", "IMAGE"]
    assert JOB in table
    assert "\x1b" not in table
    assert json.loads(nunet("-o", "json", "job", "list", tiny=tiny).stdout) == JOBS
    assert [json.loads(row) for row in nunet("job", "list", "-o", "jsonl", tiny=tiny).stdout.splitlines()] == JOBS
    assert yaml.safe_load(nunet("job", "list", "-o", "yaml", tiny=tiny).stdout) == JOBS


def test_nothing_to_list_is_said_on_stderr(tiny: TinyDms) -> None:
    tiny.answers["GET /jobs"] = (200, {"items": [], "next_token": ""})
    result = nunet("job", "list", tiny=tiny)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no jobs yet" in result.stderr
    assert nunet("job", "list", "-o", "json", tiny=tiny).stdout == "[]\n"


@pytest.mark.parametrize("some", [("--role", "cp"), ("--status", "failed"), ("--at", "3")])
def test_nothing_of_what_was_asked_for_is_not_nothing_at_all(tiny: TinyDms, some: tuple[str, str]) -> None:
    tiny.answers["GET /jobs"] = (200, {"items": [], "next_token": ""})
    assert nunet("job", "list", *some, tiny=tiny).stderr == "no such jobs\n"


def test_the_node_itself_says_who_stopped_a_job(tiny: TinyDms) -> None:
    tiny.answers[f"POST /jobs/{JOB}/stop"] = (200, {"message": "told"})
    nunet("job", "stop", JOB, tiny=tiny)
    nunet("job", "stop", JOB, "--reason", "seen enough", tiny=tiny)
    assert [body for _, _, body in tiny.asked] == [{"reason": ""}, {"reason": "seen enough"}]


@pytest.mark.parametrize("odd", ["", "nope", "@LAST", "../x", "0" * 40])
def test_what_names_no_job_is_refused_in_words_wherever_it_stands(tiny: TinyDms, odd: str) -> None:
    for command in (("why", odd), ("stop", odd), ("stop", JOB, odd), ("logs", odd), ("results", odd)):
        result = nunet("job", *command, tiny=tiny)
        assert (result.exit_code, f"{odd!r} is no job id" in result.stderr) == (3, True), result.stderr
    assert tiny.asked == []


def test_a_single_problem_of_a_request_says_where_it_is(tiny: TinyDms) -> None:
    for detail, shown in (
        ("is in env as well", "/params/secret_env/A: is in env as well"),
        ("0 to 9 is expected", "is in env as well (/params/secret_env/A: 0 to 9 is expected)"),
    ):
        problem = {"pointer": "/params/secret_env/A", "detail": detail}
        tiny.answers["GET /jobs"] = (400, {"error": "is in env as well", "errors": [problem]})
        assert nunet("job", "list", tiny=tiny).stderr.splitlines()[0] == f"error: {shown}"


@pytest.mark.parametrize("odd", ["nan", "inf"])
def test_a_price_that_is_no_number_is_wrong_usage(tiny: TinyDms, odd: str) -> None:
    result = nunet("job", "run", "--image", "busybox", "--max-ntx", odd, "--quote", tiny=tiny)
    assert (result.exit_code, "a number that is none" in result.stderr) == (2, True), result.stderr


def test_a_device_that_can_run_no_jobs_just_now_says_why(tiny: TinyDms) -> None:
    tiny.answers["GET /device/status"] = (
        200,
        {
            "online": True,
            "hindrance": "the engine is away",
            "accepting": False,
            "reasons": [
                {"kind": "provider", "reason": "the engine is away"},
                {"kind": "capacity", "reason": "nothing is free"},
            ],
        },
    )
    result = nunet("device", "status", tiny=tiny)
    assert result.stdout == "status  online\n"
    assert result.stderr.splitlines() == [
        "no jobs of peers are taken: the engine is away",
        "no jobs of peers are taken: nothing is free",
    ]
    assert json.loads(nunet("device", "status", "-o", "json", tiny=tiny).stdout)["hindrance"] == "the engine is away"


def test_people_are_not_shown_what_is_sealed(tiny: TinyDms) -> None:
    event = {
        "position": 7,
        "time": "2026-01-31T12:00:00Z",
        "type": "io.nunet.dms.job.failed.v2",
        "subject": f"job-{JOB}",
    }
    event["data"] = {"fault": "job", "exit_code": 3, "sealed": "c1pherText"}
    tiny.answers["GET /events"] = (200, (event,))
    people = nunet("events", "tail", "--after", "6", tiny=tiny).stdout
    assert people.rstrip().endswith("fault job, exit_code 3")
    assert json.loads(nunet("events", "tail", "--after", "6", "-o", "jsonl", tiny=tiny).stdout) == event


def test_a_stream_in_yaml_is_one_document_an_item(tiny: TinyDms) -> None:
    events = [{"position": number, "data": {"text": "a: b"}} for number in (7, 8)]
    tiny.answers["GET /events"] = (200, tuple(events))
    assert list(yaml.safe_load_all(nunet("events", "tail", "--after", "6", "-o", "yaml", tiny=tiny).stdout)) == events


def test_what_strangers_write_can_not_drive_the_terminal() -> None:
    assert printable("a\x1b]0;title\x07\u202eb") == "a\\x1b]0;title\\x07\\u202eb"
    assert output_line("\x1b[31mred\x1b[2J", terminal=True) == "\x1b[31mred\\x1b[2J\x1b[0m"
    assert output_line("\x1b[2Jraw", terminal=False) == "\x1b[2Jraw"


EVIL = "a\x1b]0;owned\x07\x9b2J\u202eb"


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "yaml"])
def test_what_strangers_write_is_shown_in_each_form_and_drives_nothing(tiny: TinyDms, form: str) -> None:
    event = {"position": 7, "time": EVIL, "type": f"io.nunet.dms.{EVIL}.v1", "subject": EVIL, "data": {"x": EVIL}}
    tiny.answers["GET /events"] = (200, (event,))
    shown = nunet("events", "tail", "--after", "6", "-o", form, tiny=tiny).stdout
    assert printable(shown) == shown
    if form in ("json", "jsonl"):
        assert json.loads(shown) == event
    elif form == "yaml":
        assert list(yaml.safe_load_all(shown)) == [event]


def test_a_message_of_nats_is_an_event_or_none() -> None:
    event = {
        "specversion": "1.0", "id": JOB, "source": "urn:nunet:dms:peer:12D3KooWA", "type": "io.nunet.dms.job.failed.v2",
        "subject": f"job-{JOB}", "time": "2026-01-31T12:00:00.000000Z", "datacontenttype": "application/json",
        "dataschema": "urn:nunet:dms:event:job.failed:v2", "position": 7, "streamversion": 2, "hash": "ab" * 32,
        "data": {"fault": "job"}, "fromlater": [1],
    }  # fmt: skip
    assert event_of(json.dumps(event).encode()) == event
    odd = [
        b"{}",
        b"[]",
        b"1",
        b"",
        b"\xff",
        *(json.dumps(event | {name: {}}).encode() for name in ("type", "position")),
    ]
    odd += [
        json.dumps(event | more).encode() for more in ({"type": EVIL}, {"time": EVIL}, {"position": "7"}, {"data": 1})
    ]
    for data in odd:
        with pytest.raises(Conflict, match="message 3 of"):
            event_of(data, 3)


def test_checkpoints_are_listed(tiny: TinyDms) -> None:
    row = {"checkpoint_dir": "/d", "filename_path": "a.tar.gz", "last_modified": 1769860800, "size_bytes": 20480}
    tiny.answers["GET /run/checkpoints"] = (200, [row])
    table = nunet("checkpoint", "list", tiny=tiny)
    assert (table.exit_code, "a.tar.gz" in table.stdout, "20480" in table.stdout, "2026-01-31" in table.stdout) == (
        0, True, True, True,
    )  # fmt: skip
    assert json.loads(nunet("checkpoint", "list", "-o", "json", tiny=tiny).stdout) == [row]
    tiny.answers["GET /run/checkpoints"] = (200, [])
    assert "no checkpoints yet" in nunet("checkpoint", "list", tiny=tiny).stderr


def test_transactions_are_listed_claimed_reported_and_looked_up(tiny: TinyDms) -> None:
    row = {"tx_hash": "0xab", "transaction_type": "refund", "date_time": "2026-01-31 12:00:00 +0000 UTC"}
    reward = {"reward_type": "refund", "to_provider": "0", "to_requester": "0.4"}
    tiny.answers["GET /transactions"] = (200, [row])
    tiny.answers["POST /transactions/request-reward"] = (200, reward)
    tiny.answers["POST /transactions/send-status"] = (200, {"message": "transaction status success acknowledged"})
    tiny.answers["POST /transactions/update-status"] = (200, {"message": "synchronized", "updated": 1})
    listed = nunet("transaction", "list", "--done", "0", "--clean", "done", tiny=tiny)
    assert "0xab" in listed.stdout
    assert json.loads(nunet("transaction", "request-reward", "0xab", "-o", "json", tiny=tiny).stdout) == reward
    assert "acknowledged" in nunet("transaction", "send-status", "0xab", "--type", "refund", tiny=tiny).stderr
    assert json.loads(nunet("transaction", "sync", "-o", "json", tiny=tiny).stdout)["updated"] == 1
    assert tiny.asked == [
        ("GET /transactions", {"size_done": "0", "clean_tx": "done"}, None),
        ("POST /transactions/request-reward", {}, {"tx_hash": "0xab", "compute_provider_address": ""}),
        (
            "POST /transactions/send-status",
            {},
            {"transaction_type": "refund", "transaction_status": "success", "tx_hash": "0xab"},
        ),
        ("POST /transactions/update-status", {}, {"address": ""}),
    ]


def test_a_running_jobs_reward_is_a_conflict(tiny: TinyDms) -> None:
    tiny.answers["POST /transactions/request-reward"] = (409, {"error": "the job is still running"})
    done = nunet("transaction", "request-reward", "0xab", tiny=tiny)
    assert done.exit_code == 5
    assert "still running" in done.stderr


ENDS_OF_LINES = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\rh"  # to str.splitlines; not to JSON


def test_a_line_ends_at_its_line_feed_only(tiny: TinyDms, tmp_path: Path) -> None:
    tiny.answers[f"GET /jobs/{JOB}"] = (200, {"log_url": f"/api/v1/jobs/{JOB}/logs?token=t"})
    rows = tuple({"seq": n, "time": "t", "stream": "stdout", "text": ENDS_OF_LINES} for n in (1, 2))
    tiny.answers[f"GET /jobs/{JOB}/logs"] = (200, rows)
    result = nunet("job", "logs", JOB, tiny=tiny)
    assert (result.exit_code, result.stdout) == (0, f"{ENDS_OF_LINES}\n" * 2)
    event = {"position": 1, "type": "io.nunet.dms.job.x.v1", "time": "", "subject": "s", "data": {"x": ENDS_OF_LINES}}
    tiny.answers["GET /events"] = (200, (event,))
    tail = nunet("events", "tail", "--after", "0", "-o", "jsonl", tiny=tiny).stdout
    assert json.loads(tail) == event
    assert nunet("events", "tail", "--after", "0", tiny=tiny).stdout.count("\n") == 1
    assert len(nunet("events", "tail", "--after", "0", tiny=tiny).stdout.splitlines()) == 1
    tiny.answers["GET /events/export"] = (200, (event,))
    path = tmp_path / "export"
    nunet("events", "export", "-f", str(path), tiny=tiny)
    assert json.loads(path.read_bytes()) == event


def test_a_cell_of_a_table_stays_in_its_row(tiny: TinyDms) -> None:
    tiny.answers["GET /jobs"] = (200, {"items": [{**JOBS[0], "image": ENDS_OF_LINES}], "next_token": ""})
    assert len(nunet("job", "list", tiny=tiny).stdout.splitlines()) == 2


def test_output_that_was_erased_is_not_an_empty_output(tiny: TinyDms) -> None:
    job = {"log_url": f"/api/v1/jobs/{JOB}/logs?token=t", "log_lines": 3}
    tiny.answers[f"GET /jobs/{JOB}"] = (200, job)
    tiny.answers[f"GET /jobs/{JOB}/logs"] = (200, ())
    result = nunet("job", "logs", JOB, tiny=tiny)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "erased" in result.stderr
    assert nunet("job", "logs", JOB, "--after", "3", tiny=tiny).exit_code == 0  # it has them all
    assert nunet("job", "logs", JOB, "--stream", "stderr", tiny=tiny).exit_code == 0  # it wrote none there, maybe
    for lines in (0, None):  # it wrote nothing; it is not over
        tiny.answers[f"GET /jobs/{JOB}"] = (200, job | {"log_lines": lines})
        assert nunet("job", "logs", JOB, tiny=tiny).exit_code == 0


def test_a_difference_has_times_for_people(tiny: TinyDms) -> None:
    before: dict[str, Any] = {
        "status": "running",
        "ended_at": None,
        "duration_seconds": 0.0,
        "position": 1,
        "timeline": [],
    }
    after = before | {"status": "completed", "ended_at": "2026-01-31T12:00:00.000001+00:00", "duration_seconds": 1.5}
    jobs = [{"key": JOB, "before": before, "after": after}]
    tiny.answers["GET /diff"] = (200, {"from": 1, "to": 2, "events": 1, "jobs": jobs, "capacity": []})
    shown = nunet("diff", "1", tiny=tiny, TZ="UTC").stdout
    assert "duration_seconds: 0 to 1.5" in shown
    assert "ended_at: nothing to 2026-01-31" in shown


def test_the_dashboards_address_is_told_only_where_a_daemon_answers(tiny: TinyDms) -> None:
    assert nunet("dashboard", DMS_URL="http://127.0.0.1:1").exit_code == 7
    tiny.answers["GET /livez"] = (200, {"status": "alive"})
    assert nunet("dashboard", tiny=tiny).output == f"{tiny.url}/dashboard/\n"
    assert json.loads(nunet("dashboard", "-o", "json", tiny=tiny).output) == {"url": f"{tiny.url}/dashboard/"}
    unopened = nunet("dashboard", "--open", tiny=tiny, BROWSER="false", PATH="/nowhere")
    assert (unopened.exit_code, f"open {tiny.url}/dashboard/ in one" in unopened.output) == (1, True)


def test_the_record_of_a_job_is_checked_and_what_is_wrong_fails(tiny: TinyDms) -> None:
    found = {"job_id": JOB, "result": "open", "position": 9, "events": 4, "checked_at": "2026-01-31T12:00:00+00:00",
             "checks": [{"name": "history", "result": "verified", "detail": "4 events fit"},
                        {"name": "output", "result": "open", "detail": "the output is not sealed yet"}]}  # fmt: skip
    tiny.answers[f"GET /jobs/{JOB}/verification"] = (200, found)
    shown = nunet("job", "verify", JOB, tiny=tiny)
    assert [line.split()[:2] for line in shown.stdout.splitlines()[1:]] == [["history", "verified"], ["output", "open"]]
    assert shown.exit_code == 0, "what nothing can tell of yet is no failure"
    tiny.answers[f"GET /jobs/{JOB}/verification"] = (200, found | {"result": "wrong"})
    wrong = nunet("job", "verify", JOB, "-o", "json", tiny=tiny)
    assert (json.loads(wrong.stdout)["result"], wrong.exit_code) == ("wrong", 1)
    assert "is not what was recorded" in wrong.stderr
