"""Every command where a program may find itself: without a home, a folder, streams, or text that is text. What comes
is a sentence with an exit code that is documented; never a traceback, never an "internal error"."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from dms.cli.main import cli
from dms.errors import Exit
from tests.unit.cli.tiny_dms import TinyDms

NOT_TEXT = "caf\udce9"  # as Python has the bytes "caf\xe9" of a command line
NOWHERE = "http://127.0.0.1:1"
CODES = {int(code) for code in Exit}
LEFT_OUT = ("shell",)  # says only that it is left out


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, found in group.commands.items():
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))
        elif name not in LEFT_OUT:
            yield (*path, name), found


EVERY = list(commands())
NAMES = [" ".join(path) for path, _ in EVERY]


def arguments(path: tuple[str, ...], command: click.Command, folder: Path, text: str = "x1") -> list[str]:
    """The command with all that it needs; what it writes goes to the folder. `run` gets as far as its settings."""
    given = list(path)
    if path == ("run",):
        return [*given, "--set", "no.such=1"]
    if path == ("log",):
        given += ["--to", str(folder / "log.tar.gz")]
    for param in command.params:
        if not param.required:
            continue
        if isinstance(param.type, click.Choice):
            value = param.type.choices[0]
        elif isinstance(param.type, click.Path | click.File):
            value = str(folder / "a file")
            Path(value).write_text("{}")
        else:
            value = text
        given += [value] if isinstance(param, click.Argument) else [param.opts[0], value]
    return given


def checked(result: Result) -> Result:
    said = result.stderr
    assert result.exit_code in CODES, (result.exit_code, said)
    assert "internal error" not in said
    assert "Traceback" not in said
    assert result.exit_code == 0 or said.startswith(("error: ", "warning: ", "Checking", "Collecting", "Usage")), said
    return result


def nunet(*args: str, **env: str) -> Result:
    return checked(CliRunner().invoke(cli, args, env={"DMS_URL": NOWHERE, **env}))


@pytest.mark.parametrize(("path", "command"), EVERY, ids=NAMES)
def test_without_a_home_and_a_name(
    path: tuple[str, ...], command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_uid: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    nunet(*arguments(path, command, tmp_path))


@pytest.mark.parametrize(("path", "command"), EVERY, ids=NAMES)
def test_in_a_folder_that_is_gone(
    path: tuple[str, ...], command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    nunet(*arguments(path, command, tmp_path))
    given = [part.replace(str(tmp_path), "..") for part in arguments(path, command, tmp_path)]
    nunet(*given)  # paths that would begin in it


@pytest.mark.parametrize(("path", "command"), EVERY, ids=NAMES)
def test_with_words_that_are_no_text(
    path: tuple[str, ...], command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where a file of that name may be made
    nunet(*arguments(path, command, tmp_path, NOT_TEXT))
    nunet(*arguments(path, command, tmp_path), NOT_TEXT)
    nunet(*arguments(path, command, tmp_path), "--no-such", NOT_TEXT)
    nunet(*arguments(path, command, tmp_path), "--url", NOT_TEXT)
    nunet(*arguments(path, command, tmp_path), "--config", NOT_TEXT)
    odd = tmp_path / NOT_TEXT
    odd.mkdir()
    nunet(*arguments(path, command, odd))
    for param in command.params:
        option = next((text for text in param.opts if text.startswith("--")), "")
        if option and not getattr(param, "is_flag", False) and option not in ("--output",):
            nunet(*arguments(path, command, tmp_path), option, NOT_TEXT)


@pytest.mark.parametrize(("path", "command"), EVERY, ids=NAMES)
def test_with_an_environment_that_is_no_text(path: tuple[str, ...], command: click.Command, tmp_path: Path) -> None:
    given = arguments(path, command, tmp_path)
    nunet(*given, DMS_GENERAL_DATA_DIR=NOT_TEXT)
    nunet(*given, DMS_REST_ADDR=NOT_TEXT, DMS_URL="")
    nunet(*given, DMS_URL=NOT_TEXT)
    nunet(*given, HOME=f"/{NOT_TEXT}", DMS_URL="")


@pytest.mark.parametrize(("path", "command"), EVERY, ids=NAMES)
def test_in_a_narrow_dumb_terminal(path: tuple[str, ...], command: click.Command, tmp_path: Path) -> None:
    narrow = {"COLUMNS": "1", "LINES": "1", "TERM": "dumb", "TMPDIR": "/nonexistent"}
    assert nunet(*path, "--help", **narrow).exit_code == 0
    nunet(*arguments(path, command, tmp_path), **narrow)


@pytest.mark.parametrize("name", ["offboard", "onboard", "erasure run x", "peer default", "chat join", "accept-file"])
def test_nobody_to_ask(name: str) -> None:
    assert nunet(*name.split()).exit_code != 0


# --- real processes, for what only those have ----------------------------------------------------------------


@pytest.fixture
def tiny() -> Iterator[TinyDms]:
    with TinyDms().running() as server:
        server.answers["GET /jobs"] = (
            200,
            {"items": [{"job_id": "ł", "image": "€", "status": "running"}] * 3000, "next_token": ""},
        )
        yield server


def shell(line: str, tiny: TinyDms | None = None, **env: str) -> tuple[int, bytes, bytes]:
    """The line of a shell in which `nunet` is this program."""
    program = f'nunet() {{ "{sys.executable}" -m dms.cli "$@"; }}; {line}'
    done = subprocess.run(
        ["bash", "-c", program],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "DMS_URL": tiny.url if tiny else NOWHERE, **env},
    )
    assert b"Traceback" not in done.stderr
    assert b"internal error" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
@pytest.mark.slow
def test_a_closed_stream_changes_no_exit_code(tiny: TinyDms, closed: str) -> None:
    assert shell(f"nunet job list -o json {closed}", tiny)[0] == 0
    assert shell(f"nunet offboard {closed}")[0] == Exit.CONFLICT
    code, _, said = shell(f"nunet info {closed}")
    assert (code, bool(said)) == (Exit.UNREACHABLE, "2>&-" not in closed)


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&- >&- 2>&-"])
@pytest.mark.slow
def test_data_for_a_closed_output_is_a_failure_and_nothing_else_is(tiny: TinyDms, closed: str) -> None:
    code, _, said = shell(f"nunet job list -o json {closed}", tiny)
    assert code == Exit.FAILURE
    assert "2>&-" in closed or said == b"error: standard output is closed\n"
    assert shell(f"nunet info {closed}")[0] == Exit.UNREACHABLE


def test_no_file_of_ours_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    path = tmp_path / "log.tar.gz"
    shell(f"nunet log --to {path} <&- >&- 2>&-", DMS_GENERAL_DATA_DIR=str(tmp_path))
    assert not path.exists() or path.read_bytes()[:2] == b"\x1f\x8b"


def test_who_stops_reading_is_no_success_and_no_noise(tiny: TinyDms) -> None:
    code, shown, said = shell("set -o pipefail; nunet job list -o jsonl | head -1", tiny)
    assert (code, shown.count(b"\n"), said) == (Exit.NOT_READ, 1, b"")
    assert shell("nunet info --config none 2>&1 | true; exit ${PIPESTATUS[0]}", tiny)[0] in (3, Exit.NOT_READ)


def test_a_full_disk_is_said_once(tiny: TinyDms) -> None:
    code, _, said = shell("nunet job list -o jsonl > /dev/full", tiny)
    assert (code, said.count(b"\n")) == (Exit.FAILURE, 1)
    assert b"No space left on device" in said


@pytest.mark.parametrize("env", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}])
@pytest.mark.slow
def test_an_output_without_our_characters_gets_escapes(tiny: TinyDms, env: dict[str, str]) -> None:
    code, shown, _ = shell("nunet job list", tiny, **env)
    assert code == 0
    assert b"\\u20ac" in shown or "€".encode() in shown


def test_bytes_that_are_no_text_come_out_as_they_went_in(tmp_path: Path) -> None:
    _, _, said = shell(f"cd {tmp_path}; nunet audit verify --export $'caf\\xe9'")
    assert said == b"error: caf\xe9: there is no such export\n"
