"""A checkpoint: what a job had in its workspace at some moment, as an archive with a digest."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta, Struct

LARGEST_BYTES = 2**50
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ResumeFrom(Struct, frozen=True, kw_only=True, gc=False):
    """The archive that a job's workspace is filled with before it starts; the service provider has it.
    name: for people. sha256: hex, of the archive's bytes."""

    name: Annotated[str, Meta(max_length=255)]
    size_bytes: Annotated[int, Meta(ge=0, le=LARGEST_BYTES)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


def is_sha256(text: str) -> bool:
    return _SHA256.fullmatch(text) is not None


def archive_bound(max_bytes: int) -> int:
    """The largest archive of so much content: headers, and what does not compress."""
    return max_bytes + max_bytes // 100 + 2**26
