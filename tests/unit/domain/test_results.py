"""Which files of a workspace are a job's results."""

from __future__ import annotations

import pytest

from dms.domain.results import EVERYTHING, Selection, chosen, problem_of_pattern

FILES = [("a",), ("out", "a", "1.bin"), ("out", "a", "2.txt"), ("out", "b.bin"), ("data", "in.csv"), ("log.txt",)]
WITH_FOLDER = [*FILES, ("results", "model"), ("results", "deep", "x")]


def taken(selection: Selection, files: list[tuple[str, ...]]) -> list[str]:
    choose = chosen(selection, files)
    return ["/".join(path) for path in files if choose is None or choose(path)]


def test_without_a_word_of_it_the_folder_results_comes_back_or_else_all_but_inputs() -> None:
    assert taken(Selection(), WITH_FOLDER) == ["results/model", "results/deep/x"]
    assert taken(Selection(), FILES) == ["/".join(path) for path in FILES]
    assert taken(Selection(inputs=("data", "a")), FILES) == ["out/a/1.bin", "out/a/2.txt", "out/b.bin", "log.txt"]
    assert taken(Selection(inputs=("data/in.csv", "./out/a")), FILES) == ["a", "out/b.bin", "log.txt"]
    assert taken(EVERYTHING, WITH_FOLDER) == ["/".join(path) for path in WITH_FOLDER]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("out", ["out/a/1.bin", "out/a/2.txt", "out/b.bin"]),
        ("out/", ["out/a/1.bin", "out/a/2.txt", "out/b.bin"]),
        ("out/*.bin", ["out/b.bin"]),
        ("out/**/*.bin", ["out/a/1.bin", "out/b.bin"]),
        ("**/*.bin", ["out/a/1.bin", "out/b.bin"]),
        ("*.txt", ["log.txt"]),
        ("./log.txt", ["log.txt"]),
        ("out/[a-z]/?.bin", ["out/a/1.bin"]),
        ("nothing", []),
        ("log.txt/below", []),
    ],
)
def test_a_pattern_names_files_and_folders_with_all_in_them(pattern: str, found: list[str]) -> None:
    assert taken(Selection(patterns=(pattern,), inputs=("out",)), FILES) == found


@pytest.mark.parametrize("pattern", ["", "/etc/passwd", "../x", "a/../../b", "a\0b", "x" * 513, "a/" * 40])
def test_a_pattern_that_leads_out_or_is_too_large_is_named(pattern: str) -> None:
    assert problem_of_pattern(pattern)
    assert not problem_of_pattern("results/**/*.bin")


def test_patterns_that_would_try_every_way_take_no_longer() -> None:
    worst = Selection(patterns=("/".join(["**"] * 31 + ["b"]), "*a" * 200 + "b"))
    choose = chosen(worst, FILES)
    assert choose is not None
    assert not choose(("a",) * 60)
    assert not choose(("a" * 255,))
