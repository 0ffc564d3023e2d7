"""Texts are found in files byte by byte, and blacked out without moving anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dms.application.records.redaction import WINDOW, black_out, forms, holding

CUTS = "import os, sys\nwhile True: os.truncate(sys.argv[1], 0); os.truncate(sys.argv[1], 1 << 25)"
LOOKS = """
import sys
from pathlib import Path
from dms.application.records.redaction import holding
for _ in range(100): holding(Path(sys.argv[1]), [b"addr_one"])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "dms.log").write_bytes(b'{"message":"job of addr_one, caf\\u00e9 bar, addr_one"}\n')
    (tmp_path / "inner" / "blob").write_bytes(b"\0\1addr_one\2")
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to(tmp_path / "dms.log")
    return tmp_path


def test_every_file_that_holds_a_text_is_named(folder: Path) -> None:
    assert holding(folder, forms(["addr_one"])) == ["dms.log", "inner/blob"]
    assert holding(folder, forms(["addr_two", ""])) == []


def test_each_place_is_overwritten_and_no_length_changes(folder: Path) -> None:
    before = (folder / "dms.log").read_bytes()
    assert black_out([folder / "dms.log", folder / "gone", folder / "empty"], forms(["addr_one", "café bar"])) == 3
    after = (folder / "dms.log").read_bytes()
    assert after == b'{"message":"job of xxxxxxxx, xxxxxxxxxxxxx, xxxxxxxx"}\n'
    assert len(after) == len(before)


def test_a_writer_goes_on_at_its_end(folder: Path) -> None:
    path = folder / "dms.log"
    with path.open("ab") as file:
        file.write(b"addr_one again\n")
        file.flush()
        assert black_out([path], forms(["addr_one"])) == 3
        file.write(b"more\n")
    assert path.read_bytes().endswith(b"xxxxxxxx again\nmore\n")


def test_a_link_is_not_followed(folder: Path) -> None:
    assert black_out([folder / "link"], forms(["addr_one"])) == 0


def test_a_file_that_is_cut_short_meanwhile_does_no_harm(tmp_path: Path) -> None:
    """As a running job may do with its own; a mapped one would end the process (SIGBUS)."""
    path = tmp_path / "work"
    path.touch()
    cutting = subprocess.Popen([sys.executable, "-c", CUTS, path])
    try:
        looking = subprocess.run([sys.executable, "-c", LOOKS, tmp_path], timeout=120, check=False)
    finally:
        cutting.kill()
        cutting.wait(120)
    assert looking.returncode == 0


def test_a_file_with_an_endless_hole_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "work"
    path.write_bytes(b"addr_one")
    os.truncate(path, 1 << 43)
    with path.open("r+b") as file:
        file.seek(1 << 42)
        file.write(b"addr_two")
    assert holding(tmp_path, [b"addr_two"]) == ["work"]
    assert holding(tmp_path, [b"addr_three"]) == []


@pytest.mark.parametrize("before", [WINDOW - 8, WINDOW - 1, WINDOW, 3 * WINDOW - 4])
def test_a_text_is_found_wherever_it_stands(tmp_path: Path, before: int) -> None:
    path = tmp_path / "dms.log"
    path.write_bytes(b"." * before + b"addr_one" + b".")
    assert holding(tmp_path, [b"a-longer-word", b"addr_one"]) == ["dms.log"]
    assert black_out([path], [b"a-longer-word", b"addr_one"]) == 1
    assert path.read_bytes() == b"." * before + b"xxxxxxxx" + b"."


def test_a_text_is_found_as_json_has_it_with_and_without_escapes(tmp_path: Path) -> None:
    for name, content in (("ascii", '"caf\\u00e9 \\"x\\""'), ("utf-8", '"café \\"x\\""'), ("raw", 'café "x"')):
        (tmp_path / name).write_text(content)
    assert holding(tmp_path, forms(['café "x"'])) == ["ascii", "raw", "utf-8"]
