"""The command `nunet` against a tiny daemon: what it sends, prints and exits with."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from dms.cli.core import Command, State
from dms.cli.main import cli
from dms.cli.text import output_line, printable
from tests.unit.cli.tiny_dms import CUT, HEAR, TinyDms

JOB = "01990000-0000-7000-8000-000000000001"
REQUEST = {"service_type": "ml-training-cpu", "params": {"image_id": "busybox"}, "constraints": {}, "max_ntx": 10}
OFFER = {"job_id": JOB, "estimated_price": 0.02, "compute_provider_addr": "12D3KooWProvider", "signature": "ab"}
SUBMITTED = {"action": "job-submitted", "job_id": JOB, "position": 5}
COMPLETED = {"action": "job-completed", "job_id": JOB, "position": 9}
FAILED = {"action": "job-failed", "message": "finished with errors: exit code 3", "job_id": JOB, "position": 9}
CONNECTED = {"action": "connected", "message": "You are connected to DMS for docker (GPU/CPU) deployment."}


def line(seq: int, stream: str, text: str) -> dict[str, Any]:
    return {"action": "log-stream-response", stream: f"{text}\n", "job_id": JOB, "seq": seq}


@pytest.fixture
def tiny() -> Iterator[TinyDms]:
    with TinyDms().running() as server:
        yield server


@pytest.fixture
def request_file(tmp_path: Path) -> str:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(REQUEST))
    return str(path)


def nunet(*args: str, tiny: TinyDms | None = None, stdin: str | None = None, **env: str) -> Result:
    given = {"DMS_URL": tiny.url} if tiny else {}
    return CliRunner().invoke(cli, args, input=stdin, env=given | env, catch_exceptions=False)


def every_command() -> list[tuple[str, ...]]:
    def below(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, found in group.commands.items():
            if isinstance(found, click.Group):
                yield from below(found, (*path, name))
            else:
                yield (*path, name)

    return list(below(cli, ()))


# --- help, options, errors ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_help_has_an_example_of_that_command(path: tuple[str, ...]) -> None:
    result = nunet(*path, "--help")
    assert result.exit_code == 0
    assert "Example:\n    " + " ".join(("nunet", *path)) in result.stdout
    text = result.stdout.partition("Example:")[0]  # what is copied stays one line, however long
    assert [line for line in text.splitlines() if len(line) > 80 and " > " not in line] == []


def test_no_command_hides_an_option_behind_a_shared_one() -> None:
    def check(group: click.Group) -> None:
        for found in group.commands.values():
            if isinstance(found, click.Group):
                check(found)
                continue
            assert isinstance(found, Command)
            options = [text for param in found.params for text in (*param.opts, *param.secondary_opts)]
            assert len(options) == len(set(options)), found.name

    check(cli)


def test_help_needs_none_of_the_slow_libraries() -> None:
    code = (
        "import sys\n"
        "from dms.cli.main import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('httpx', 'rich', 'msgspec', 'websockets', 'libp2p', 'sanic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_wrong_usage_is_one_line_and_where_to_read_on() -> None:
    result = nunet("job", "list", "--limit", "many")
    assert (result.exit_code, result.stdout) == (2, "")
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: Invalid value for '--limit'")
    assert hint == "hint: nunet job list --help"


@pytest.mark.parametrize("path", [("job",), ("audit",), ()])
def test_a_group_alone_shows_its_help(path: tuple[str, ...]) -> None:
    result = nunet(*path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.rstrip("\n") == nunet(*path, "--help").stdout.rstrip("\n")


@pytest.mark.parametrize("options", [("--export", "none.ndjson"), ("--export", __file__, "--against", "none.ndjson")])
def test_an_export_that_is_not_there_is_not_found(options: tuple[str, ...]) -> None:
    result = nunet("audit", "verify", *options)
    assert (result.exit_code, result.stderr) == (3, "error: none.ndjson: there is no such export\n")


def test_a_file_that_can_not_be_opened_is_named_with_the_reason(tmp_path: Path) -> None:
    result = nunet("events", "export", "-f", str(tmp_path / "none" / "log.ndjson"), DMS_URL="http://127.0.0.1:9")
    assert (result.exit_code, result.stderr) == (
        1,
        f"error: {tmp_path}/none/log.ndjson: No such file or directory\n",
    )


def test_a_daemon_that_is_away_is_said_so_with_what_to_do() -> None:
    with socket.socket() as taken:  # bound but not listening: nothing else can answer there
        taken.bind(("127.0.0.1", 0))
        result = nunet("job", "list", "--url", f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert (result.exit_code, result.stdout) == (7, "")
    assert result.stderr.startswith("error: looks like DMS is not running...")
    assert "nunet run" in result.stderr
    assert "systemctl status nunet-dms" in result.stderr


@pytest.mark.parametrize(("status", "code"), [(400, 1), (401, 4), (403, 4), (404, 3), (409, 5), (500, 1), (503, 1)])
def test_each_status_has_its_exit_code(tiny: TinyDms, status: int, code: int) -> None:
    tiny.answers["GET /onboarding/metadata"] = (status, {"error": "this is\nwhy"})
    result = nunet("info", tiny=tiny)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", "error: this is why\n")


def test_what_is_no_address_is_wrong_usage() -> None:
    assert nunet("info", "--url", "ftp://example").exit_code == 2


def test_the_url_comes_from_the_flag_then_the_environment_then_the_settings(tiny: TinyDms, tmp_path: Path) -> None:
    tiny.answers["GET /onboarding/metadata"] = (200, {"name": "here"})
    config = tmp_path / "dms_config.json"
    config.write_text(json.dumps({"rest": {"port": int(tiny.url.rpartition(":")[2])}}))
    nowhere = "http://127.0.0.1:1"
    assert nunet("info", "--url", tiny.url + "/api/v1/", DMS_URL=nowhere).exit_code == 0
    assert nunet("info", DMS_URL=tiny.url).exit_code == 0
    assert nunet("--config", str(config), "info", DMS_URL="").exit_code == 0
    assert nunet("info", "--config", str(config), DMS_URL="").exit_code == 0
    assert nunet("info", DMS_URL=nowhere).exit_code == 7


# --- output --------------------------------------------------------------------------------------


JOBS: list[dict[str, Any]] = [
    {"job_id": JOB, "role": "service provider", "status": "running", "price": "0.02", "image": "a\x1b[2Jb"},
    {"job_id": "second", "role": "compute provider", "status": "failed", "exit_code": 3, "price": "1", "image": "c"},
]


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


# --- job run -------------------------------------------------------------------------------------


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


# --- onboarding ------------------------------------------------------------------------------------


def test_onboarding_sends_what_the_flags_say(tiny: TinyDms) -> None:
    tiny.answers["GET /onboarding/status"] = (200, {"onboarded": False})
    tiny.answers["POST /onboarding/onboard"] = (200, {"name": "host"})
    args = (
        "-m",
        "4000.7",
        "-c",
        "8000",
        "-n",
        "nunet-test",
        "-a",
        "addr1",
        "-x",
        "0.5",
        "-C",
        "-l",
        "-u",
        "-p",
        "ipfs",
    )
    result = nunet("onboard", *args, "-o", "json", tiny=tiny)
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"name": "host"})
    assert tiny.asked[-1][2] == {
        "memory": 4000,
        "cpu": 8000,
        "channel": "nunet-test",
        "payment_addr": "addr1",
        "cardano": True,
        "server_mode": False,
        "is_available": False,
        "ntx_price": 0.5,
        "plugins": ["ipfs"],
    }


def test_onboarding_asks_nothing_without_a_terminal(tiny: TinyDms) -> None:
    tiny.answers["GET /onboarding/status"] = (200, {"onboarded": False})
    result = nunet("onboard", "-c", "8000", "-n", "nunet-test", "-a", "addr1", tiny=tiny)
    assert result.exit_code == 2
    assert "memory must be provided and greater than 0" in result.stderr


def test_onboarding_again_must_be_agreed_to(tiny: TinyDms) -> None:
    tiny.answers["GET /onboarding/status"] = (200, {"onboarded": True})
    tiny.answers["POST /onboarding/onboard"] = (200, {})
    args = ("onboard", "-m", "4000", "-c", "8000", "-n", "nunet-test", "-a", "addr1")
    assert nunet(*args, tiny=tiny).exit_code == 5
    assert nunet(*args, "--yes", tiny=tiny).exit_code == 0


def test_offboarding_sends_force_where_the_server_reads_it(tiny: TinyDms) -> None:
    tiny.answers["POST /onboarding/offboard"] = (200, {"message": "Successfully Offboarded"})
    assert nunet("offboard", tiny=tiny).exit_code == 5
    assert nunet("offboard", "--yes", "--force", tiny=tiny).exit_code == 0
    assert tiny.asked == [("POST /onboarding/offboard", {"force": "true"}, None)]


# --- settings ----------------------------------------------------------------------------------------


def test_config_show_says_where_each_value_comes_from(tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text('{"rest": {"port": 9998},\n "nats": {"url": "nats://user:secret@host:4222"}}')
    result = nunet("config", "show", "--config", str(config), "-o", "json", DMS_REST_ADDR="::1")
    shown = {row["setting"]: row for row in json.loads(result.stdout)}
    assert shown["rest.port"] == {"setting": "rest.port", "value": 9998, "from": f"file {config}:1"}
    assert shown["rest.addr"]["from"] == "env DMS_REST_ADDR"
    assert shown["p2p.mdns"]["from"] == "default"
    assert "secret" not in result.output


def test_config_show_says_that_a_secret_is_set_but_not_which() -> None:
    result = nunet("config", "show", "-o", "json", DMS_NATS_PASSWORD="open-sesame")
    shown = {row["setting"]: row for row in json.loads(result.stdout)}
    assert shown["nats.password"] == {"setting": "nats.password", "value": "***", "from": "env DMS_NATS_PASSWORD"}
    assert shown["nats.token"]["value"] == ""
    assert "open-sesame" not in result.output


def test_a_secret_on_the_command_line_is_refused_and_not_repeated() -> None:
    result = nunet("run", "--set", "nats.token=open-sesame")
    assert result.exit_code == 2
    assert "nats.token_file" in result.stderr
    assert "open-sesame" not in result.output


def test_config_check_points_at_the_fault(tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text('{"rest": {\n  "port": 99999}}')
    result = nunet("config", "check", "--config", str(config))
    assert result.exit_code == 2
    assert f"{config}:2:11" in result.stderr


def test_a_setting_without_a_value_is_wrong_usage() -> None:
    result = nunet("run", "--set", "rest.port")
    assert result.exit_code == 2
    assert "KEY=VALUE" in result.stderr


def test_an_unknown_setting_is_wrong_usage() -> None:
    assert nunet("run", "--set", "rest.prot=1").exit_code == 2


# --- transactions --------------------------------------------------------------------------------------
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


# --- lines of a stream --------------------------------------------------------------------------------

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


# --- options of the original's that look like ours ------------------------------------------------------

PROVISIONED = {"cpu": 8000.4, "memory": 4000, "total_cores": 4}
CAPACITY = {"providers": [], "network": {"online": 0, "total": {}, "onboarded": {}, "reserved": {}, "free": {}}}


@pytest.mark.parametrize("name", ["capacity", "available"])
@pytest.mark.parametrize("given", [["-o", "json"], ["-ojson"], ["-o=json"], ["--output", "json"], ["-o", "json", "-o"]])
def test_a_format_behind_o_is_the_format_everywhere(tiny: TinyDms, name: str, given: list[str]) -> None:
    tiny.answers["GET /capacity"] = (200, CAPACITY)
    tiny.answers["GET /onboarding/provisioned"] = (200, PROVISIONED)
    rows = json.loads(nunet(name, *given, tiny=tiny).stdout)
    only = ["Onboarded", "Network onboarded"]
    assert [row["resources"] for row in rows if given[-1] == "-o" or row["resources"] in only] == only


@pytest.mark.parametrize("given", [["-o"], ["-f", "-o"], ["-fo"], ["-of"]])
def test_o_alone_is_what_is_onboarded(tiny: TinyDms, given: list[str]) -> None:
    tiny.answers["GET /capacity"] = (200, CAPACITY)
    tiny.answers["GET /onboarding/provisioned"] = (200, PROVISIONED)
    result = nunet("capacity", *given, tiny=tiny)
    assert result.exit_code == 0
    assert "Onboarded" in result.stdout
    assert ("Full" in result.stdout) == ("f" in "".join(given))


def test_every_command_takes_a_format_behind_o() -> None:
    """Also one whose own flag has that letter: only what is not a format is left to it."""
    for path in every_command():
        assert "-o json" not in nunet(*path, "-o", "nonsense").stderr
        command: click.Command = cli
        for name in path:
            assert isinstance(command, click.Group)
            command = command.commands[name]
        if isinstance(command, Command):
            for form in ("table", "json", "jsonl", "yaml"):
                made = command.make_context("x", ["-o", form, "--help"], resilient_parsing=True)
                assert made.find_root().ensure_object(State).format == form, path


@pytest.mark.parametrize(("memory", "cpu"), [("50%", "50%"), ("2000", "4000"), ("2000.9", "50 %")])
def test_a_share_of_the_machine_is_offered(tiny: TinyDms, memory: str, cpu: str) -> None:
    tiny.answers["GET /onboarding/status"] = (200, {"onboarded": False})
    tiny.answers["GET /onboarding/provisioned"] = (200, PROVISIONED)
    tiny.answers["POST /onboarding/onboard"] = (200, {})
    tiny.answers["POST /onboarding/resource-config"] = (200, {})
    nunet("onboard", "-m", memory, "-c", cpu, "-n", "nunet-test", "-a", "addr", tiny=tiny)
    nunet("resource-config", "-m", memory, "-c", cpu, tiny=tiny)
    bodies = [body for path, _, body in tiny.asked if path.startswith("POST")]
    assert [(body["memory"], body["cpu"]) for body in bodies] == [(2000, 4000)] * 2


@pytest.mark.parametrize("odd", ["half", "%", "50%%", "nan", "-50%", "0%"])
def test_what_is_no_amount_is_wrong_usage(tiny: TinyDms, odd: str) -> None:
    tiny.answers["GET /onboarding/status"] = (200, {"onboarded": False})
    tiny.answers["GET /onboarding/provisioned"] = (200, PROVISIONED)
    result = nunet("onboard", "-m", odd, "-c", "1000", "-n", "nunet-test", "-a", "addr", tiny=tiny)
    assert result.exit_code == 2


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
