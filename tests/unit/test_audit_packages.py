"""What is said of the locked packages: never that they are fine while nobody could be asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops import audit_packages

FINE = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("dependencies", "code", "word"),
    [
        ([FINE], 0, "1 packages, no known"),
        ([FINE, BAD], 1, "b 2: CVE-2026-1 (mended in 2.1)"),
        ([FINE, UNKNOWN], 3, "1 of 2 packages could not be looked up"),
        ([BAD, UNKNOWN], 1, "1 of 2 packages could not be looked up"),
        ([], 3, "0 of 0 packages could not be looked up"),
    ],
)
def test_what_was_not_looked_up_is_not_called_fine(dependencies: list[object], code: int, word: str) -> None:
    ended, lines = audit_packages.verdict(list(audit_packages.read(json.dumps({"dependencies": dependencies}))))
    assert ended == code
    assert word in "\n".join(lines)


@pytest.mark.parametrize("told", ["", "Traceback", "{}"])
def test_a_database_that_is_away_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], told: str
) -> None:
    tool = tmp_path / "pip-audit"
    tool.write_text(f"#!/bin/sh\necho '{told}'\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setattr(audit_packages, "TOOL", (str(tool),))
    assert audit_packages.main() == 3
    assert "could be reached" in capsys.readouterr().out


def test_what_one_database_lacks_is_asked_of_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"pypi": [UNKNOWN], "osv": [FINE]}
    monkeypatch.setattr(
        audit_packages,
        "ask",
        lambda _lock, name: list(audit_packages.read(json.dumps({"dependencies": answers[name]}))),
    )
    assert audit_packages.main() == 0
