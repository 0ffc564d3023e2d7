"""Reading an export: plain, or compressed as the archive's segment files are."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from dms.errors import LogCorrupt

GZIP = b"\x1f\x8b"
LONGEST_LINE = 64 << 20  # bytes: a compressed file of nothing can be as long as it likes once it is unpacked


def export_lines(path: Path) -> Iterator[bytes]:
    """Its lines, each with its line break. Raises LogCorrupt for a damaged file, OSError for one that can't be read."""
    with path.open("rb") as start:
        packed = start.read(2) == GZIP
    with gzip.open(path) if packed else path.open("rb") as file:
        try:
            while line := file.readline(LONGEST_LINE + 1):
                if len(line) > LONGEST_LINE:
                    raise LogCorrupt(f"a line is longer than {LONGEST_LINE} bytes")
                yield line
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise LogCorrupt(f"the compressed file is damaged: {error}") from error
