"""What a fuzz target is, and all of them."""

from __future__ import annotations

import atexit
import codecs
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"


class Target(NamedTuple):
    """run: reads the bytes as the program would, and holds what must hold of what it gives. refusals: all that may be
    raised. seeds: what is well formed, from which others are made."""

    name: str
    run: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]

    def __call__(self, data: bytes) -> bool:
        """Whether it was taken."""
        try:
            self.run(data)
        except self.refusals:
            return False
        return True


@cache
def targets() -> dict[str, Target]:
    found: dict[str, Target] = {}
    for path in sorted((HERE / "targets").glob("*.py")):
        for target in import_module(f"tests.fuzz.targets.{path.stem}").TARGETS:
            assert target.name not in found, f"two targets are named {target.name}"
            found[target.name] = target
    return found


def corpus_of(target: Target) -> list[bytes]:
    """Its seeds, and what was found to lead into each corner."""
    path = CORPUS / f"{target.name}.txt"
    return (
        [*target.seeds, *(unescaped(line) for line in path.read_text().splitlines())]
        if path.exists()
        else [*target.seeds]
    )


def escaped(data: bytes) -> str:
    """On one line, readable as far as it is text."""
    return data.decode("latin-1").encode("unicode_escape").decode()


def unescaped(line: str) -> bytes:
    return codecs.decode(line.encode(), "unicode_escape").encode("latin-1")


def write_corpus(name: str, inputs: Iterable[bytes]) -> None:
    lines = sorted({escaped(data) for data in inputs if data}, key=lambda line: (len(line), line))
    (CORPUS / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))


SHARED = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())


def scratch() -> Path:
    """A folder in memory for decoders of files, one for each process."""
    return _scratch_of(os.getpid())


@cache
def _scratch_of(pid: int) -> Path:
    atexit.register(remove_scratch_of, pid)
    return Path(tempfile.mkdtemp(prefix=f"dms-fuzz-{pid}-", dir=SHARED))


def remove_scratch_of(pid: int) -> None:
    """libFuzzer ends its process without a word to Python."""
    for folder in SHARED.glob(f"dms-fuzz-{pid}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def written(data: bytes, name: str = "input") -> Path:
    path = scratch() / name
    path.write_bytes(data)
    return path


def split(data: bytes, most: int = 64) -> Iterator[bytes]:
    """As a stream that comes in pieces of odd sizes: of what is told in frames."""
    size = data[0] % 61 + 1 if data else 1
    data = data[1:]
    for count, start in enumerate(range(0, len(data), size)):
        if count >= most:
            yield data[start:]
            return
        yield data[start : start + size]
