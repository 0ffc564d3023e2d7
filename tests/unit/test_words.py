"""Texts are found in files byte by byte, and blacked out without moving anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.application.words import black_out, forms, holding


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
