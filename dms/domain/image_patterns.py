"""Patterns by which images are allowed and denied: `busybox`, `ghcr.io/nunet/*`, `name:tag`, `sha256:...`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from dms.domain.image import ImageReference, host_of, normalised, parse_image
from dms.errors import InvalidInput

LONGEST_PATTERN = 512
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_WILD = re.compile(r"\[!?\]?[^\]]*\]|[*?]")  # as fnmatch reads them


def first_match(patterns: Iterable[str], reference: ImageReference, digests: set[str]) -> str | None:
    """digests: those that the image is known to have."""
    return next((pattern for pattern in patterns if _matches(pattern, reference, digests)), None)


def allows(patterns: Sequence[str], reference: ImageReference, digests: set[str]) -> bool:
    """No pattern at all allows every image. Before an image is here, only its name may be known: then a list that has
    a digest can't refuse it yet."""
    if not patterns or first_match(patterns, reference, digests) is not None:
        return True
    return not digests and any(_DIGEST.fullmatch(pattern) for pattern in patterns)


def names_its_registry(pattern: str) -> bool:
    """Whether it says which registry an image is from."""
    if _DIGEST.fullmatch(pattern) or pattern.startswith("*"):
        return False
    return not set("*?[") & set(host_of(normalised(pattern).partition("/")[0]))


def check_pattern(pattern: str) -> None:
    """Raises InvalidInput for one that can fit no image."""
    if _DIGEST.fullmatch(pattern):
        return
    if not pattern or len(pattern) > LONGEST_PATTERN:
        raise InvalidInput(f"a pattern has 1 to {LONGEST_PATTERN} characters, not {len(pattern)}")
    name, at, digest = pattern.replace("[[]", "[").partition("@")
    plain = _WILD.sub("1", name)
    try:
        parse_image(f"{plain}@{digest}" if at and not _WILD.search(digest) else plain)
    except InvalidInput as error:
        raise InvalidInput(
            f"{pattern[:80]!r} fits no image: expected a name such as busybox, ghcr.io/nunet/* or name:tag, or a "
            "digest, sha256: and 64 hexadecimal digits"
        ) from error


def _matches(pattern: str, reference: ImageReference, digests: set[str]) -> bool:
    if _DIGEST.fullmatch(pattern):
        return pattern in digests
    normal = pattern if pattern.startswith("*") else normalised(pattern)
    names = {reference.repository, f"{reference.repository}:{reference.tag}"}
    names |= {f"{reference.repository}@{digest}" for digest in digests}
    return any(fnmatchcase(name, normal) for name in names)
