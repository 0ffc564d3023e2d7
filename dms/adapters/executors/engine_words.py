"""What the container engine's words mean, in sentences of ours.

The engine tells its own errors, and what others answered it, only in words. A stranger who names an image chooses whom
it asks, and what comes back may be the answer of a service behind the provider's walls: so its words go to this
machine's log and nowhere else, and everybody is told one of a few sentences.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from docker.errors import APIError

logger = logging.getLogger(__name__)

MOST_LOGGED = 2_000  # characters
ONLY_LOGGED = "for a reason that only the log of the provider's machine tells"
NO_SPACE = "no space left where it writes"
NO_GPU = "it has no device driver for the GPU"


class _Meaning(NamedTuple):
    signs: tuple[str, ...]
    sentence: str


_MEANINGS = (  # the first that fits counts
    _Meaning(("no space left on device", "disk quota exceeded"), NO_SPACE),
    _Meaning(("read-only file system",), "a file system that it writes to is read-only"),
    _Meaning(
        ("could not select device driver", "nvidia-container", "unresolvable cdi devices", "unknown device"), NO_GPU
    ),
    _Meaning(("unknown or invalid runtime", "unknown runtime"), "it does not know the runtime that the job is to have"),
    _Meaning(("overlap",), "the addresses are taken by another network"),
    _Meaning(("iptables", "failed to program", "netlink", "bridge"), "it can't set up a network on its machine"),
    _Meaning(("unable to find user", "no matching entries in passwd"), "its image does not know the user it names"),
    _Meaning(("executable file not found", "no such file or directory"), "a file that it needs is not there"),
    _Meaning(("exec format error",), "the program is not for this kind of machine"),
    _Meaning(("argument list too long",), "its arguments are too long"),
    _Meaning(("permission denied", "operation not permitted"), "the system does not permit it"),
    _Meaning(("cannot allocate memory", "resource temporarily unavailable"), "the machine has no memory left for it"),
    _Meaning(("already in use", "in progress", "marked for removal", "is not running"), "it is in the way of another"),
    _Meaning(("context deadline exceeded", "timeout"), "it took too long"),
    _Meaning(("containerd", "connection refused", "shutting down"), "a part of it is down"),
)
SENTENCES = frozenset(meaning.sentence for meaning in _MEANINGS) | {ONLY_LOGGED}


def meaning(words: str) -> str:
    """One of SENTENCES; empty for no words."""
    if not words:
        return ""
    said = words.lower()
    fitting = (each.sentence for each in _MEANINGS if any(sign in said for sign in each.signs))
    return next(fitting, ONLY_LOGGED)


def explained(what: str, words: str) -> str:
    """The same; the words themselves are logged. what: the engine was asked for."""
    log_words(what, words)
    return meaning(words)


def log_words(what: str, words: str) -> None:
    logger.info("the container engine, asked to %s, said: %s", what, words[:MOST_LOGGED])


def words_of(error: APIError) -> str:
    return str(error.explanation or error).strip()
