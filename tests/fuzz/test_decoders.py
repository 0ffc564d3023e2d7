"""Each place that reads what comes from outside has a fuzz target; and each target refuses, in the words that are
documented for it, whatever it is given."""

from __future__ import annotations

import logging
import sys
import tracemalloc
from collections.abc import Iterator
from random import Random
from types import FrameType

import pytest

from tests.fuzz.mutations import mutated
from tests.fuzz.own import NOT_FROM_OUTSIDE
from tests.fuzz.sites import ROOMS, Site, sites
from tests.fuzz.target import CORPUS, Target, corpus_of, escaped, targets, unescaped

TARGETS = list(targets().values())
INPUTS = 150  # made for each target here; `make fuzz-decoders` goes on for as long as it is let
MOST_MEMORY = 64 << 20  # bytes, for an input of some KiB
CORPUS_BYTES = 1_000_000

of_each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What is refused is told in the log, each time."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@of_each_target
def test_known_inputs_are_taken_or_refused_in_bounded_memory(target: Target) -> None:
    known = corpus_of(target)
    _try(target, known[0])  # what is loaded and kept at the first use is no memory of the input's
    tracemalloc.start()
    try:
        for data in known:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            _try(target, data)
            _, most = tracemalloc.get_traced_memory()
            assert most - before < MOST_MEMORY, f"{target.name}: {escaped(data)[:200]}"
    finally:
        tracemalloc.stop()


@of_each_target
def test_inputs_made_from_them_are_taken_or_refused(target: Target) -> None:
    made = mutated(Random(target.name), corpus_of(target))
    for _ in range(INPUTS):
        _try(target, next(made))


@of_each_target
def test_a_target_takes_something(target: Target) -> None:
    """One that refuses all would look at nothing."""
    assert any(target(data) for data in corpus_of(target))


def _try(target: Target, data: bytes) -> None:
    try:
        target(data)
    except Exception as error:
        error.add_note(f"a line of tests/fuzz/corpus/{target.name}.txt gives it again:\n{escaped(data)}")
        raise


# --- completeness -------------------------------------------------------------------------------------
def test_each_reader_of_outside_bytes_is_reached_by_a_target() -> None:
    read, reached = sites(), set(_reached())
    unknown = read - reached - set(map(_site, NOT_FROM_OUTSIDE))
    assert not unknown, f"needs a target in tests/fuzz/targets, or a reason in tests/fuzz/own.py: {_listed(unknown)}"
    stale = {site for site in map(_site, NOT_FROM_OUTSIDE) if site not in read or site in reached}
    assert not stale, f"is in tests/fuzz/own.py, and is gone or has a target: {_listed(stale)}"


def test_readers_are_found() -> None:
    """Of each way of writing one."""
    found = {str(site) for site in sites()}
    assert "dms.domain.policy:read_policy" in found  # msgspec.json.decode
    assert "dms.domain.export:Checker._check" in found  # bytes.fromhex
    assert "dms.application.network.messages:decode_request" in found  # the bounds' read
    assert "dms.adapters.eventlog.archive_reader:Archived._decoded" in found  # a decoder made once
    assert "dms.domain.event:_parser.<locals>.open_and_upcast" in found  # a function in a function


def _site(text: str) -> Site:
    return Site(*text.split(":"))


def _listed(found: set[Site]) -> str:
    return ", ".join(sorted(map(str, found)))


def _reached() -> Iterator[Site]:
    """Every function that the known inputs lead into."""
    seen: set[tuple[str, str]] = set()
    _forget_answers()

    def called(frame: FrameType, kind: str, _: object) -> None:
        if kind == "call":
            seen.add((frame.f_globals.get("__name__", ""), frame.f_code.co_qualname))

    sys.setprofile(called)
    try:
        for target in TARGETS:
            for data in corpus_of(target):
                target(data)
    finally:
        sys.setprofile(None)
    return (Site(module, name) for module, name in seen)


def _forget_answers() -> None:
    """What is cached is not called again."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ROOMS:
            for value in list(vars(module).values()):
                getattr(value, "cache_clear", lambda: None)()


# --- the corpus ---------------------------------------------------------------------------------------
def test_the_corpus_is_small_and_of_targets() -> None:
    paths = sorted(CORPUS.glob("*"))
    assert {path.stem for path in paths} <= {target.name for target in TARGETS}
    assert sum(path.stat().st_size for path in paths) < CORPUS_BYTES


def test_any_bytes_fit_on_a_line_of_the_corpus() -> None:
    data = bytes(range(256)) + b"\\n\n\\"
    assert "\n" not in escaped(data)
    assert unescaped(escaped(data)) == data
