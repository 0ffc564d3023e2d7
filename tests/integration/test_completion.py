"""TAB behind `nunet` in the real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fixtures.network import shell_environment
from tests.fixtures.terminal import terminal

WORDS = {
    "nunet job des": ["describe"],
    "nunet device set o": ["online", "offline"],
    "nunet job list --st": ["--status"],
    "nunet -o js": ["json", "jsonl"],
    "nunet autocomplete f": ["fish"],
}


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    made = shell_environment(tmp_path / "bin", HOME=str(tmp_path), TERM="xterm")
    for shell in ("bash", "zsh", "fish"):
        assert shutil.which(shell), f"{shell} is not installed: run `make setup`"
        script = subprocess.run(
            ["nunet", "autocomplete", shell], env=made, capture_output=True, text=True, check=True, timeout=120
        ).stdout
        (tmp_path / ("_nunet" if shell == "zsh" else f"nunet.{shell}")).write_text(script)
    return made


@pytest.mark.parametrize("line", WORDS)
@pytest.mark.slow
def test_bash_knows_the_words(env: Mapping[str, str], tmp_path: Path, line: str) -> None:
    ask = 'source nunet.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _nunet_completion nunet'
    done = subprocess.run(
        ["bash", "--norc", "-c", f'{ask}; printf "%s\\n" "${{COMPREPLY[@]}}"', "bash", *line.split()],
        env=env, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert sorted(done.stdout.split()) == sorted(WORDS[line])
    assert done.stderr == ""


@pytest.mark.parametrize("line", WORDS)
@pytest.mark.slow
def test_fish_knows_the_words(env: Mapping[str, str], tmp_path: Path, line: str) -> None:
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source nunet.fish; complete -C '{line}'"],
        env=env, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert sorted(row.split("\t")[0] for row in done.stdout.splitlines()) == sorted(WORDS[line])


def test_tab_completes_in_bash(env: Mapping[str, str], tmp_path: Path) -> None:
    with terminal(["bash", "--norc", "--noprofile", "-i"], {**env, "PS1": "$ "}) as shell:
        shell.expect("$ ")
        shell.type(f"source {tmp_path}/nunet.bash; echo rea''dy\r")
        shell.expect("ready\r\n")
        shell.type("nunet job des\t")
        shell.expect("nunet job describe ")
        shell.type("--help\r")
        shell.expect("Show everything known about a job")
        shell.type("exit\r")
        assert shell.end() == 0


@pytest.mark.slow
def test_tab_completes_in_zsh(env: Mapping[str, str], tmp_path: Path) -> None:
    """As it is installed: the file is named _nunet and stands in a folder of fpath."""
    rc = f"fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -u -D; PS1='$ '; echo rea''dy"
    with terminal(["zsh", "-f", "-i"], {**env, "ZDOTDIR": str(tmp_path), "USER": os.environ.get("USER", "x")}) as shell:
        shell.type(f"{rc}\r")
        shell.expect("ready\r\n")
        shell.type("nunet job des\t")
        shell.expect("describe")
        shell.type("--help\r")
        shell.expect("Show everything known about a job")
        shell.type("exit\r")
        assert shell.end() == 0
