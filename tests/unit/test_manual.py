"""The manual pages say what the program has, and a reader of manuals finds no fault in them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click
import pytest

from dms.cli.main import cli
from dms.errors import Exit
from ops import manual


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.name: path for path in manual.write(tmp_path_factory.mktemp("man"))}


def shown(page: Path) -> str:
    """As `man` shows it, in one line; fails on any warning of groff's."""
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", str(page)],
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "1000", "MANPAGER": "cat", "LC_ALL": "C.UTF-8", "TERM": "dumb"},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return " ".join(done.stdout.replace("‐", "-").replace("−", "-").split())  # groff's hyphens


@pytest.mark.parametrize("name", ["nunet.1", "nunet-dms.conf.5"])
def test_a_page_has_no_faults(pages: dict[str, Path], name: str) -> None:
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "style", str(pages[name])],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert shown(pages[name])


def test_every_command_and_option_is_in_the_manual(pages: dict[str, Path]) -> None:
    text = shown(pages["nunet.1"])
    found = list(manual.commands(cli, ("nunet",)))
    assert len(found) > 20
    for path, command in found:
        assert " ".join(path) in text
        for param in command.params:
            if isinstance(param, click.Option) and not param.hidden:
                assert all(option in text for option in param.opts), (path, param.opts)
    for code in Exit:
        assert f" {code.value} " in text.partition("EXIT STATUS")[2]


def test_every_setting_is_described_and_so_in_the_manual(pages: dict[str, Path]) -> None:
    described = set(manual.described_settings())
    missing = {key for key in manual.all_settings() - described if f"{key.partition('.')[0]}.*" not in described}
    assert missing == set(), "docs/settings.md has no row for these"
    unknown = {key for key in described - manual.all_settings() if not key.endswith(".*")}
    assert unknown <= {"general.metadata_path"}  # the older name of general.work_dir
    text = shown(pages["nunet-dms.conf.5"])
    assert all(key in text for key in described)


def test_a_page_is_the_same_each_time_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1760000000")
    assert manual.nunet_page() == manual.nunet_page()
    assert "2025-10-09" in manual.nunet_page().splitlines()[0]


@pytest.mark.parametrize("text", [".SH not a macro", "'quoted", "a\\b", "x" * 200, "-" * 90])
def test_no_text_is_taken_for_a_macro(text: str) -> None:
    lines = manual.escape(text).splitlines()
    assert not any(line.startswith((".", "'")) for line in lines)
    assert manual.literal([text])[3][0] not in ".'"
