"""Looks for texts in the files of a folder, byte by byte, and blacks them out. Calls block."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

BLACK = b"x"


def forms(texts: Iterable[str]) -> list[bytes]:
    """How each may stand in a file: as it is, and as in a JSON text."""
    found = {text.encode(errors="surrogateescape") for text in texts if text}
    found |= {json.dumps(text)[1:-1].encode() for text in texts if text}
    return sorted(found, key=len, reverse=True)


def black_out(paths: Iterable[Path], words: Sequence[bytes]) -> int:
    """Overwrites them where they stand, in files that may be written to meanwhile: no length changes. Answers how many
    there were. What is gone, or no regular file of ours, is left alone."""
    count = 0
    for path in paths:
        with _mapped(path, write=True) as content:
            if content is not None:
                count += sum(_overwrite(content, word) for word in words)
    return count


def _overwrite(content: mmap.mmap, word: bytes) -> int:
    count, start = 0, content.find(word)
    while start >= 0:
        content[start : start + len(word)] = BLACK * len(word)
        count += 1
        start = content.find(word, start + len(word))
    return count


def holding(folder: Path, words: Sequence[bytes]) -> list[str]:
    """The files below the folder that have one of them, by their path from there."""
    found = []
    for path in _files(folder):
        with _mapped(path, write=False) as content:
            if content is not None and any(content.find(word) >= 0 for word in words):
                found.append(str(path.relative_to(folder)))
    return sorted(found)


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (Path(root, name) for name in names)


@contextmanager
def _mapped(path: Path, *, write: bool) -> Iterator[mmap.mmap | None]:
    """None: it is gone, empty, a link, or not to be read."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_RDWR if write else os.O_RDONLY)
    content = None
    with suppress(OSError, ValueError):
        handle = os.open(path, flags)
        try:
            content = mmap.mmap(handle, 0, access=mmap.ACCESS_WRITE if write else mmap.ACCESS_READ)
        finally:
            os.close(handle)
    try:
        yield content
    finally:
        if content is not None:
            content.close()
