"""The command `nunet`: help, options, addresses, exit codes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dms.cli.core import Command, State
from dms.cli.main import cli
from tests.unit.cli.nunet import PROVISIONED, every_command, nunet
from tests.unit.cli.tiny_dms import TinyDms


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


@pytest.mark.parametrize(
    "url",
    ["ftp://example", "http://é..b", "http://a..b", "http://" + "a" * 64, "http://a\x01b", "http://[::1"],
)
def test_what_is_no_address_is_wrong_usage(url: str) -> None:
    result = nunet("info", "--url", url)
    assert result.exit_code == 2
    assert "is not the address of a DMS" in result.stderr


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


def test_a_setting_without_a_value_is_wrong_usage() -> None:
    result = nunet("run", "--set", "rest.port")
    assert result.exit_code == 2
    assert "KEY=VALUE" in result.stderr


def test_an_unknown_setting_is_wrong_usage() -> None:
    assert nunet("run", "--set", "rest.prot=1").exit_code == 2


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
