"""What is told of mutants, made of files as mutmut leaves them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops import mutants

FILE = """
def x_half__mutmut_orig(number):
    return number // 2


def x_half__mutmut_1(number):
    return number // 3


def x_half__mutmut_2(number):
    return number >> 1

class Job:
    def xǁJobǁend__mutmut_orig(self):
        self.over = True

    def xǁJobǁend__mutmut_1(self):
        self.over = False
"""
SPANS = {
    "x_half__mutmut_orig": [2, 3],
    "x_half__mutmut_1": [6, 7],
    "x_half__mutmut_2": [10, 11],
    "xǁJobǁend__mutmut_orig": [14, 15],
    "xǁJobǁend__mutmut_1": [17, 18],
}
HALF = "dms.domain.small.x_half__mutmut"
END = "dms.domain.small.xǁJobǁend__mutmut"


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "dms" / "domain"
    folder.mkdir(parents=True)
    (folder / "small.py").write_text(FILE)
    (folder / "small.py.spans").write_text(json.dumps({"version": 1, "spans": SPANS}))
    (tmp_path / "alike.toml").write_text("")
    monkeypatch.setattr(mutants, "FOLDER", tmp_path)
    monkeypatch.setattr(mutants, "ALIKE_FILE", tmp_path / "alike.toml")
    results(tmp_path, {f"{HALF}_1": 1, f"{HALF}_2": 0, f"{END}_1": 33})
    return tmp_path


def results(folder: Path, codes: dict[str, int | None]) -> None:
    (folder / "dms" / "domain" / "small.py.meta").write_text(json.dumps({"exit_code_by_key": codes}))


def told(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["mutants", "--shown", *words])
    return mutants.main()


def test_what_was_not_noticed_is_told_with_its_change(
    tried: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(monkeypatch) == 0
    assert capsys.readouterr().out.splitlines() == [
        "small                     33.3 % of     3  (1 killed, 1 survived, 1 untested)",
        f"    survived {HALF}_2",
        "-     return number // 2",
        "+     return number >> 1",
        f"    untested {END}_1",
        "-         self.over = True",
        "+         self.over = False",
        "all                       33.3 % of     3  (1 killed, 1 survived, 1 untested)",
    ]


def test_what_nobody_can_tell_apart_does_not_count(
    tried: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tried / "alike.toml").write_text('["small.half"]\n"return number >> 1" = "the same for whole numbers"\n')
    assert told(monkeypatch) == 0
    out = capsys.readouterr().out
    assert "50.0 % of     2  (1 alike, 1 killed, 1 untested)" in out
    assert f"{HALF}_2" not in out
    (tried / "alike.toml").write_text('["small.Job.end"]\n"return number >> 1" = "of another function"\n')
    assert told(monkeypatch) == 0
    assert f"survived {HALF}_2" in capsys.readouterr().out


def test_too_few_that_were_noticed_is_a_failure(tried: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, "--least", "33") == 0
    assert told(monkeypatch, "--least", "34") == 1


def test_a_pattern_names_some_of_them(
    tried: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results(tried, {f"{HALF}_1": 24, f"{HALF}_2": None, f"{END}_1": 0})
    assert told(monkeypatch, "dms.domain.small.x_half*") == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "all                      100.0 % of     1  (1 timed out), 1 were not tried"
    )


def test_again_are_tried_those_that_were_not_noticed(tried: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def tries(names: list[str], _: int) -> int:
        asked.append(names)
        return 0

    monkeypatch.setattr(mutants, "_try", tries)
    monkeypatch.setattr("sys.argv", ["mutants", "--again"])
    assert mutants.main() == 0
    assert asked == [[f"{HALF}_2", f"{END}_1"]]
    results(tried, {f"{HALF}_1": 24})
    assert mutants.main() == 0
    assert asked.pop() == [f"{HALF}_1"], "it may have had too little time"
    results(tried, {f"{HALF}_1": 1, f"{HALF}_2": None})
    assert mutants.main() == 0, "nothing is left to try"
    assert len(asked) == 1


def test_what_is_said_of_mutants_that_are_alike_is_said_of_code_that_is_there() -> None:
    known = mutants.alike()
    for function, changes in known.items():
        module, _, name = function.partition(".")
        source = (mutants.ROOT / "dms" / "domain" / f"{module}.py").read_text()
        assert f"def {name.rpartition('.')[2]}(" in source, function
        assert all(changes.values()), f"{function}: a reason is missing"
