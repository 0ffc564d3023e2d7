"""How an error of ours is told: to HTTP clients, to peers, and as an exit code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dms import errors
from dms.errors import FAILED, DmsError, Exit, PeerMisbehaved, Unavailable, exit_code_of, from_peer, told


def kinds(base: type[DmsError] = DmsError) -> Iterator[type[DmsError]]:
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from kinds(kind)


def test_each_kind_is_told_by_the_row_nearest_to_it() -> None:
    """A row of a base that came first would hide it."""
    rows = [row.kind for row in errors.TOLD]
    assert rows[-1] is DmsError
    for kind in kinds():
        first = next(row for row in rows if issubclass(kind, row))
        assert first is next(base for base in kind.__mro__ if base in rows)


def test_what_a_peer_is_told_arrives_as_the_same_kind() -> None:
    for row in errors.TOLD:
        if row.peer_word:
            assert type(from_peer(row.peer_word, "why")) is row.kind


def test_what_a_peer_has_no_word_for_is_its_failure_and_may_pass() -> None:
    failure = from_peer(FAILED, "why")
    assert isinstance(failure, Unavailable)
    assert (told(failure).status, told(failure).peer_word) == (502, FAILED)


@pytest.mark.parametrize("word", ["", "a word of the future"])
def test_a_word_that_nobody_knows_is_the_peers_fault(word: str) -> None:
    assert type(from_peer(word, "why")) is PeerMisbehaved


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Exit.FAILURE),
        (401, Exit.DENIED),
        (403, Exit.DENIED),
        (404, Exit.NOT_FOUND),
        (409, Exit.CONFLICT),
        (410, Exit.NOT_FOUND),
        (412, Exit.CONFLICT),
        (422, Exit.FAILURE),
        (500, Exit.FAILURE),
        (503, Exit.FAILURE),
    ],
)
def test_the_exit_code_of_an_answer(status: int, code: Exit) -> None:
    assert exit_code_of(status) is code


def test_the_same_error_ends_a_command_alike_here_and_by_the_daemons_answer() -> None:
    for row in errors.TOLD:
        if row.status < 500:
            assert told_of(row.kind).exit_code is exit_code_of(row.status)


def told_of(kind: type[DmsError]) -> errors.Told:
    return told(kind("why", 1) if kind is errors.Gone else kind("why"))
