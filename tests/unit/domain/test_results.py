"""Which files of a workspace are a job's results."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dms.domain.features import needed_by
from dms.domain.request import ResumeJob
from dms.domain.reservations import Reservations
from dms.domain.resources import Resources
from dms.domain.results import EVERYTHING, MOST_WORK, Selection, chosen, problem_of_pattern
from dms.errors import ArchiveRefused
from tests.fixtures.histories import request

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


PARTS = ["a", "b", "ab", "*", "**", "?", "a*", "*b", "[ab]", "[!a]", ".", ""]
NAMES = st.lists(st.sampled_from(["a", "b", "ab", "c", ".", "[ab]"]), min_size=1, max_size=6).map(tuple)


@given(st.lists(st.lists(st.sampled_from(PARTS), min_size=1, max_size=6), min_size=1, max_size=4), st.lists(NAMES))
def test_patterns_together_name_what_one_of_them_names(patterns: list[list[str]], paths: list[tuple[str, ...]]) -> None:
    choose = chosen(Selection(patterns=tuple("/".join(parts) for parts in patterns)), paths)
    named = [choose is None or choose(path) for path in paths]
    assert named == [any(names([part for part in parts if part not in ("", ".")], path) for parts in patterns)
                     for path in paths]  # fmt: skip


def names(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """As it is written in words: the slow way."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(names(pattern[1:], path[skipped:]) for skipped in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and names(pattern[1:], path[1:])


@pytest.mark.parametrize(
    ("patterns", "name"),
    [
        (["/".join([*["**", f"*{number}?"] * 15, "z*"]) for number in range(64)], "0"),
        (["*a" * 200 + f"b{number}*" for number in range(64)], "a" * 250),
        (["*" + "a" * 200 + f"b{number}*" for number in range(64)], "a" * 250),
        (["[a-z]" * 100 + f"{number}*" for number in range(64)], "a" * 250),
        (["/".join(f"{number}{depth}*" for depth in range(31)) for number in range(64)], "x"),
    ],
    ids=["of any depth", "of many stars", "of long words", "of classes", "of many parts"],
)
def test_patterns_cost_a_bounded_time_however_many_files_there_are(
    monkeypatch: pytest.MonkeyPatch, patterns: list[str], name: str
) -> None:
    monkeypatch.setattr("dms.domain.results.MOST_WORK", MOST_WORK >> 8)
    deep = tuple(str(number) for number in range(30))
    choose = chosen(Selection(patterns=tuple(patterns)), [])
    assert choose is not None
    files = [(*deep[: number % 2 * 30], f"{name}{number}") for number in range(65_536)]
    with pytest.raises(ArchiveRefused, match="the patterns of the results take too long with so many files"):
        all(not choose(path) for path in files)


def test_a_usual_choice_among_as_many_files_as_a_workspace_may_hold_costs_a_part_of_that_time() -> None:
    files = [("out", f"run-{number % 100}", f"part-{number}.bin") for number in range(65_536)]
    patterns = [*(f"**/*.{kind}" for kind in ("bin", "csv", "png", "json")), "out/run-1/*", "models/**", "log.txt"]
    choose = chosen(Selection(patterns=tuple(patterns)), files)
    assert choose is not None
    assert all(choose(path) for path in files)


def test_a_provider_without_workspaces_is_not_chosen_for_a_job_that_needs_one_and_an_older_one_may_have_them() -> None:
    wanted = request()
    needing = replace(wanted, params=replace(wanted.params, results=("out",)))
    resuming = replace(wanted, params=replace(wanted.params, resume_job=ResumeJob(resume=True, progress_file="x")))
    lacking = {
        name: [feature.name for feature in needed_by(one) if not feature.is_in(advertised)]
        for name, one, advertised in (
            ("plain", wanted, ("results",)),
            ("results, no workspace", needing, ("results",)),
            ("results, workspace", needing, ("results", "workspace")),
            ("results, older", needing, ()),
            ("resume, older", resuming, ()),
            ("resume, no workspace", resuming, ("results",)),
        )
    }
    assert lacking == {
        "plain": [],
        "results, no workspace": ["workspace"],
        "results, workspace": [],
        "results, older": ["results"],
        "resume, older": [],
        "resume, no workspace": ["workspace"],
    }


def test_the_memory_of_a_workspace_is_taken_until_it_is_removed_and_no_job_holds_it() -> None:
    held = Reservations()
    held.hold("job", Resources(cpu_mhz=100, memory_mb=64))
    held.leave("job", 64)
    assert (len(held), held.total, held.left) == (0, Resources(), Resources(memory_mb=64))
    held.leave("job", 64)  # again, by a later event of the same job
    held.leave("never held", 64)
    assert held.left == Resources(memory_mb=64)
    held.clear("job")
    held.clear("job")
    assert held.left == Resources()


def test_a_job_whose_end_could_not_be_recorded_holds_what_it_held_and_leaves_nothing_beside_it() -> None:
    held, resources = Reservations(), Resources(cpu_mhz=100, memory_mb=64)
    held.hold("job", resources)
    held.leave("job", 64)
    held.hold("job", resources)
    assert (held.total, held.left) == (resources, Resources())
