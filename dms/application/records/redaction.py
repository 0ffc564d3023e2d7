"""Looks for texts in the files of a folder, byte by byte, and blacks them out. Calls block.

Files are read, not mapped: a job may cut its own short meanwhile, and a page that is gone would kill this process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dms.locked_files import looking_into

BLACK = b"x"
WINDOW = 1 << 20  # bytes looked at in one go: other threads wait while one is searched


def forms(texts: Iterable[str]) -> list[bytes]:
    """How each may stand in a file: as it is, and as in a JSON text of either kind."""
    found = {text.encode(errors="surrogateescape") for text in texts if text}
    found |= {json.dumps(text)[1:-1].encode() for text in texts if text}
    found |= {json.dumps(text, ensure_ascii=False)[1:-1].encode(errors="surrogateescape") for text in texts if text}
    return sorted(found, key=len, reverse=True)


def black_out(paths: Iterable[Path], words: Sequence[bytes]) -> int:
    """Overwrites them where they stand, in files that may be written to meanwhile: no length changes. Answers how many
    there were. What is gone, or no regular file of ours, is left alone. Raises OSError when one can't be written."""
    count = 0
    for path in paths:
        with _opened(path, os.O_RDWR) as handle:
            if handle is not None:
                count += sum(_overwrite(handle, at, window, words) for at, window in _windows(handle, words))
    return count


def _overwrite(handle: int, at: int, window: bytes, words: Sequence[bytes]) -> int:
    """at: where the window begins in the file."""
    content, count = bytearray(window), 0
    for word in words:
        start = content.find(word)
        while start >= 0:
            content[start : start + len(word)] = black = BLACK * len(word)
            os.pwrite(handle, black, at + start)
            count += 1
            start = content.find(word, start + len(word))
    return count


def holding(folder: Path, words: Sequence[bytes]) -> list[str]:
    """The files below the folder that have one of them, by their path from there."""
    found = []
    for path in _files(folder):
        with suppress(OSError), _opened(path, os.O_RDONLY) as handle:
            if handle is not None and any(word in window for _, window in _windows(handle, words) for word in words):
                found.append(str(path.relative_to(folder)))
    return sorted(found)


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (Path(root, name) for name in names)


def _windows(handle: int, words: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of all that the file has now; each goes on into the next as far as a word may. Holes, which may
    be endless, are left out."""
    more = max(map(len, words), default=1) - 1
    at, end = 0, os.fstat(handle).st_size
    while at < end:
        try:
            at = os.lseek(handle, at, os.SEEK_DATA)
        except OSError:  # nothing but a hole behind it
            return
        yield at, os.pread(handle, min(WINDOW + more, end - at), at)
        at += WINDOW


@contextmanager
def _opened(path: Path, mode: int) -> Iterator[int | None]:
    """None: it is gone, no regular file, or not to be read."""
    with ExitStack() as open_files:
        handle = None
        with suppress(OSError):
            handle = open_files.enter_context(looking_into(path, mode))
        yield handle
