"""A job as people describe it: options, YAML or JSON, templates, an earlier job; and how they name one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.shell_completion import ShellComplete
from jsonschema import Draft202012Validator

from dms.adapters.http.job_schema import schema_of_job_files
from dms.cli.job_template import TEMPLATES
from dms.cli.main import cli
from dms.cli.yaml_text import YamlFault, parse
from dms.domain.request import ServiceRequest, problems_of
from projections.jobs import STATUSES
from tests.unit.cli.nunet import COMPLETED, CONNECTED, JOB, OFFER, REQUEST, SUBMITTED, nunet
from tests.unit.cli.tiny_dms import HEAR, TinyDms

OTHER = "01990000-0000-7000-8000-0000000000ff"
ROW = {"job_id": JOB, "status": "running", "image": "busybox", "requested_at": "2026-01-31T12:00:00+00:00"}


@pytest.fixture(autouse=True)
def _offering(tiny: TinyDms) -> None:
    tiny.answers["POST /run/request-service"] = (200, OFFER)


def asked(tiny: TinyDms, *args: str, stdin: str | None = None) -> dict[str, Any]:
    """What a `job run` with these words asks the daemon for."""
    result = nunet("job", "run", *args[: args.index("--") if "--" in args else None], "--quote",
                   *(args[args.index("--") :] if "--" in args else ()), tiny=tiny, stdin=stdin)  # fmt: skip
    assert result.exit_code == 0, result.stderr
    path, _, body = tiny.asked[-1]
    assert path == "POST /run/request-service"
    found: dict[str, Any] = body
    return found


# --- by options --------------------------------------------------------------------------------------


def test_a_job_is_described_without_a_file(tiny: TinyDms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hidden")
    data = tmp_path / "data set.csv"
    request = asked(
        tiny, "--image", "python:3.12", "--gpu", "--vram", "8GB", "--time", "90s", "--cpu", "2.5GHz", "--ram", "4000",
        "--input", "https://data.example/a.csv", "--input", str(data), "--env", "A=b=c", "--env", "TOKEN",
        "--secret-env", "KEY=s3cret", "--network", "internet", "--max-ntx", "2.5", "--set", "constraints.power=170",
        "--", "python", "-c", "print('a b')", "--", "-f",
    )  # fmt: skip
    assert request["service_type"] == "ml-training-gpu"
    assert request["params"] == {
        "machine_type": "gpu",
        "image_id": "python:3.12",
        "arguments": ["python", "-c", "print('a b')", "--", "-f"],
        "inputs": [{"url": "https://data.example/a.csv"}, {"url": data.as_uri()}],
        "env": {"A": "b=c", "TOKEN": "hidden"},
        "secret_env": {"KEY": "s3cret"},
    }
    wanted = {"complexity": "Low", "cpu": 2500, "ram": 4000, "vram": 8000, "time": 2, "power": 170}
    assert request["constraints"] == wanted | {"network": "internet"}
    assert request["max_ntx"] == 2.5


def test_the_least_that_must_be_said_is_the_image(tiny: TinyDms) -> None:
    request = asked(tiny, "--image", "busybox")
    made = parse_request(request)
    assert problems_of(made) == []
    assert made.params.arguments == ()  # the image's own command
    of_model = asked(tiny, "--image", "busybox", "--set", "params.model_url=https://example.org/m.py")
    assert "arguments" not in of_model["params"]
    nothing = nunet("job", "run", tiny=tiny)
    assert (nothing.exit_code, "--image" in nothing.stderr, "nunet job template" in nothing.stderr) == (2, True, True)


def test_options_are_worth_more_than_the_file_whatever_the_case_of_its_keys(tiny: TinyDms) -> None:
    body = {"service_type": "ml-training-cpu", "Params": {"Image_ID": "a"}, "constraints": {"CPU": 1, "RAM": 2}}
    request = asked(tiny, "-", "--cpu", "700", "--image", "b", stdin=json.dumps(body))
    assert request["constraints"] == {"CPU": 700, "RAM": 2}
    assert request["Params"] == {"Image_ID": "b"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--cpu", "fast"), "--cpu"),
        (("--ram", "2TB"), "--ram"),
        (("--time", "soon"), "--time"),
        (("--network", "lan"), "--network"),
        (("--env", "NOT_SET_ANYWHERE"), "NOT_SET_ANYWHERE is not set"),
        (("--set", "constraints.time"), "PATH=VALUE"),
        (("--set", "constraints.time=[1"), "constraints.time: 1:3"),
        (("--set", "max_ntx.a=1"), "max_ntx is not an object"),
    ],
)
def test_what_is_said_wrongly_is_told_before_anybody_is_asked(tiny: TinyDms, words: tuple[str, ...], says: str) -> None:
    result = nunet("job", "run", "--image", "a", *words, tiny=tiny)
    assert (result.exit_code, tiny.asked) == (2, [])
    assert says in result.stderr


# --- in a file ---------------------------------------------------------------------------------------

YAML = """\
# yaml-language-server: $schema=http://127.0.0.1:9999/schemas/job.json
service_type: ml-training-cpu
params:
  image_id: busybox
constraints: {}
max_ntx: 10
"""


@pytest.mark.parametrize("name", ["job.yaml", "job.yml", "job", "job.json"])
def test_a_file_is_yaml_or_json(tiny: TinyDms, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(json.dumps({"$schema": "http://x/schemas/job.json", **REQUEST}) if "json" in name else YAML)
    assert asked(tiny, str(path)) == REQUEST
    assert asked(tiny, "-", stdin=YAML) == REQUEST


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("job.yaml", "a: 1\nb: [1,\n  2", "job.yaml:3:4: expected ',' or ']'"),
        ("job.yaml", "a:\n  b: 1\n  b: 2", "job.yaml:3:3: the key b is here twice"),
        ("job.yaml", "a: &x [1]\nb: *x", "job.yaml:1:4: anchors and aliases are not allowed"),
        ("job.yaml", "a: !!python/name:os.system", "job.yaml:1:4: the tag"),
        ("job.yaml", "- a", "job.yaml:1:1: expected an object"),
        ("job.yaml", "a: 1e999", "job.yaml:1:4: this is not a number"),
        ("job.yaml", "a: " + "[" * 1000, "nested deeper than 32"),
        ("job.yaml", "a: b\x07", "job.yaml:1:5: the character U+0007"),
        ("job.json", '{"a": 1,\n "a": 2}', "job.json:2:2: the key a is here twice"),
        ("job.json", '{"a": }', "job.json:1:7: expected a value"),
        ("job.json", "[" * 1000, "nested too deeply"),
        ("job.json", " " * 300_000, "at most 262144 bytes"),
    ],
)
def test_a_fault_is_told_with_file_line_and_column(tmp_path: Path, name: str, text: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    result = nunet("job", "run", str(path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_yaml_is_read_by_the_rules_of_version_1_2() -> None:
    text = "no: no\ntime: 12:30\nday: 2026-01-31\noct: 0o17\nhex: 0xff\nold: 010\nx: ~\nfloat: .5\nt: true\n<<: {a: 1}"
    assert parse(text) == {
        "no": "no", "time": "12:30", "day": "2026-01-31", "oct": 15, "hex": 255, "old": 10, "x": None, "float": 0.5,
        "t": True, "<<": {"a": 1},
    }  # fmt: skip
    with pytest.raises(YamlFault, match="1:1: a key must be a text"):
        parse("[a]: 1")


# --- templates and their schema ------------------------------------------------------------------------


def parse_request(value: dict[str, Any]) -> ServiceRequest:
    import msgspec

    return msgspec.convert(value, ServiceRequest)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_template_can_be_run_as_it_is_and_names_its_schema(tiny: TinyDms, tmp_path: Path, name: str) -> None:
    text = nunet("job", "template", name, tiny=tiny).stdout
    assert text.startswith(f"# yaml-language-server: $schema={tiny.url}/schemas/job.json\n")
    described = yaml.safe_load(text)
    assert problems_of(parse_request(described)) == []
    as_json = json.loads(nunet("job", "template", name, "-o", "json", tiny=tiny).stdout)
    assert as_json == {"$schema": f"{tiny.url}/schemas/job.json", **described}
    (line,) = nunet("job", "template", name, "-o", "jsonl", tiny=tiny).stdout.splitlines()
    assert json.loads(line) == as_json
    schema = Draft202012Validator(schema_of_job_files())
    assert list(schema.iter_errors(described)) == list(schema.iter_errors(as_json)) == []
    path = tmp_path / "job.yaml"
    path.write_text(text)
    assert asked(tiny, str(path)) == described


@pytest.mark.parametrize(
    "change", [{"blokchain": "x"}, {"constraints": {"gpu": 1}}, {"service_type": 3}, {"params": {"image": "x"}}]
)
def test_the_schema_finds_what_is_misspelled(change: dict[str, Any]) -> None:
    described = yaml.safe_load(TEMPLATES["shell"])
    for key, value in change.items():
        described[key] = described[key] | value if isinstance(value, dict) else value
    assert list(Draft202012Validator(schema_of_job_files()).iter_errors(described))


# --- a dry run, and the same again ---------------------------------------------------------------------
DRY = {
    "compute_provider_addr": "addr1", "compute_provider_id": "12D3KooWNear", "estimated_price": 0.02,
    "candidates": [
        {"peer_id": "12D3KooWNear", "price": 0.02, "chosen": True, "round_trip_ms": 12.5, "trouble": ""},
        {"peer_id": "12D3KooWGone", "price": 0.01, "chosen": False, "round_trip_ms": None, "trouble": "is away"},
    ],
    "refused": [{"peer_id": "12D3KooWSmall", "reason": "has 500 MB"}], "refused_count": 1, "unseen_count": 0,
}  # fmt: skip


def test_a_dry_run_shows_price_provider_and_why_and_asks_for_nothing(tiny: TinyDms) -> None:
    tiny.answers["POST /run/request-service/dry-run"] = (200, DRY)
    result = nunet("job", "run", "--image", "busybox", "--dry-run", tiny=tiny)
    assert result.exit_code == 0
    for text in ("0.02", "12D3KooWNear", "chosen", "12.5 ms", "is away", "12D3KooWSmall", "has 500 MB"):
        assert text in result.stdout
    assert [path for path, _, _ in tiny.asked] == ["POST /run/request-service/dry-run"]
    as_json = nunet("job", "run", "--image", "busybox", "--dry-run", "-o", "json", tiny=tiny)
    assert json.loads(as_json.stdout) == DRY


def test_a_job_is_asked_for_again_with_changes(tiny: TinyDms) -> None:
    kept = {**REQUEST, "params": {"image_id": "busybox", "env": {"A.b": "1"}}}
    tiny.answers[f"GET /jobs/{JOB}/request"] = (200, {"request": kept, "secrets": ["KEY"], "left_out": []})
    result = nunet("job", "rerun", JOB, "--set", "constraints.time=20", "--set", "params.arguments=[a, 'b c']",
                   "--quote", tiny=tiny)  # fmt: skip
    assert result.exit_code == 0
    assert "params.secret_env.KEY=VALUE" in result.stderr
    assert [query for path, query, _ in tiny.asked if path.startswith("GET")] == [{"personal": "true"}]
    params = {"image_id": "busybox", "env": {"A.b": "1"}, "arguments": ["a", "b c"]}
    assert tiny.asked[-1][2] == {**REQUEST, "params": params, "constraints": {"time": 20}}


def test_a_job_with_secrets_is_not_paid_again_without_them(tiny: TinyDms) -> None:
    kept = {**REQUEST, "params": {"image_id": "busybox", "env": {"EPOCHS": "5"}}}
    tiny.answers[f"GET /jobs/{JOB}/request"] = (200, {"request": kept, "secrets": ["KEY"], "left_out": []})
    result = nunet("job", "rerun", JOB, "--trust", tiny=tiny)
    assert (result.exit_code, "--set params.secret_env.KEY=VALUE" in result.stderr) == (2, True)
    assert [path for path, _, _ in tiny.asked] == [f"GET /jobs/{JOB}/request"]
    result = nunet("job", "rerun", JOB, "--set", "params.secret_env.KEY=007", "--set", "params.env.EPOCHS=10",
                   "--quote", tiny=tiny)  # fmt: skip
    assert "KEY" not in result.stderr
    params = tiny.asked[-1][2]["params"]
    assert (params["secret_env"], params["env"]) == ({"KEY": "007"}, {"EPOCHS": "10"}), "variables are text"


def test_no_time_at_all_is_no_limit_of_a_job(tiny: TinyDms) -> None:
    result = nunet("job", "run", "--image", "busybox", "--time", "0", tiny=tiny)
    assert (result.exit_code, "no time at all" in result.stderr, tiny.asked) == (2, True, [])


def test_what_can_not_be_asked_for_again_says_why(tiny: TinyDms) -> None:
    tiny.answers[f"GET /jobs/{JOB}/request"] = (409, {"error": f"what job {JOB} was asked with was erased"})
    result = nunet("job", "rerun", JOB, tiny=tiny)
    assert (result.exit_code, "was erased" in result.stderr) == (5, True)


# --- how a job is named --------------------------------------------------------------------------------


def jobs(tiny: TinyDms, *rows: dict[str, Any]) -> None:
    tiny.answers["GET /jobs"] = (200, {"items": list(rows), "next_token": ""})
    tiny.answers[f"GET /jobs/{JOB}"] = (200, ROW)


@pytest.mark.parametrize("name", [JOB, JOB[:13], "0199", "@last"])
def test_a_job_is_named_by_its_id_its_beginning_or_as_the_last(tiny: TinyDms, name: str) -> None:
    jobs(tiny, ROW)
    result = nunet("job", "describe", name, "-o", "json", tiny=tiny)
    assert json.loads(result.stdout)["job_id"] == JOB
    asked_for = {JOB: None, "@last": {"role": "sp", "limit": "1"}}.get(name, {"id": name, "limit": "6"})
    assert [query for path, query, _ in tiny.asked if path == "GET /jobs"] == ([asked_for] if asked_for else [])


def test_events_of_a_job_are_asked_for_by_its_beginning_too(tiny: TinyDms) -> None:
    jobs(tiny, ROW)
    tiny.answers["GET /events"] = (200, ())
    assert nunet("events", "tail", "--job", "@last", tiny=tiny).exit_code == 0
    assert tiny.asked[-1][1]["job_id"] == JOB
    tiny.answers["GET /events/export"] = (200, ())
    assert nunet("events", "export", "--job", "0199", tiny=tiny).exit_code == 0
    assert tiny.asked[-1][1]["job_id"] == JOB


def test_a_beginning_that_several_have_names_them(tiny: TinyDms) -> None:
    jobs(tiny, ROW, ROW | {"job_id": OTHER})
    result = nunet("job", "stop", "0199", tiny=tiny)
    assert (result.exit_code, JOB in result.stderr, OTHER in result.stderr) == (2, True, True)
    jobs(tiny)
    assert nunet("job", "stop", "0199", tiny=tiny).exit_code == 3
    assert nunet("job", "stop", "@last", tiny=tiny).exit_code == 3
    assert all(not path.startswith("POST") for path, _, _ in tiny.asked)


def test_a_state_that_nobody_knows_is_refused_with_the_list(tiny: TinyDms) -> None:
    result = nunet("job", "list", "--status", "running,finished", tiny=tiny)
    assert (result.exit_code, tiny.asked) == (2, [])
    assert ", ".join(STATUSES) in " ".join(result.stderr.split())


# --- what a shell completes ------------------------------------------------------------------------------


def completed(tiny: TinyDms, *words: str) -> list[str]:
    """What TAB offers behind these words; the last one is being typed."""
    given = ["--url", tiny.url, *words[:-1]]
    found = ShellComplete(cli, {}, "nunet", "_NUNET_COMPLETE").get_completions(given, words[-1])
    return [str(item.value) for item in found]


def test_ids_peers_and_states_are_completed(tiny: TinyDms) -> None:
    jobs(tiny, ROW, ROW | {"job_id": OTHER})
    tiny.answers["GET /peers/dht"] = (200, ["12D3KooWNear", "12D3KooWFar"])
    assert completed(tiny, "job", "describe", "01") == [JOB, OTHER]
    assert completed(tiny, "job", "stop", "@") == ["@last"]
    assert completed(tiny, "job", "run", "--provider", "12D3KooWN") == ["12D3KooWNear"]
    assert completed(tiny, "job", "list", "--status", "failed,st") == ["failed,stopping", "failed,stopped"]


def test_a_daemon_that_is_away_completes_nothing_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    away = TinyDms()
    away.url = "http://127.0.0.1:1"
    assert completed(away, "job", "describe", "01") == []
    assert capsys.readouterr().err == ""


def test_what_was_asked_for_is_watched_to_its_end(tiny: TinyDms) -> None:
    tiny.answers[f"GET /jobs/{JOB}"] = (200, ROW)
    tiny.scripts = [[CONNECTED, HEAR, SUBMITTED, COMPLETED]]
    result = nunet("job", "run", "--image", "busybox", "--tx-hash", "5a3f", "-w", tiny=tiny)
    assert result.exit_code == 0
