"""What an image reference means, and whether the operator lets it run. Pure.

Everything is decided on the normalised form (`busybox` is `docker.io/library/busybox:latest`), so that
no other spelling of a denied image gets through.
Source of the grammar: OCI distribution-spec, and the reference grammar of the Docker registry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from msgspec import Struct

from dms.errors import ImageUnavailable

_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)"
_DOMAIN = re.compile(rf"(?:{_HOST}(?:\.{_HOST})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_REPOSITORY = re.compile(rf"{_PATH}(?:/{_PATH})*")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BARE_ID = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME = 255  # of domain and path, as the registry has it
_LONGEST_REFERENCE = 512


class ImageReference(Struct, frozen=True):
    """repository: with its registry's domain. tag is empty where only a digest was given."""

    repository: str
    tag: str
    digest: str

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


class ImagePolicy(Struct, frozen=True):
    """Patterns: `busybox`, `ghcr.io/nunet/*`, `name:tag`, `sha256:...`. An empty allow list allows all;
    what is denied is denied even if it is allowed."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def check(self, reference: ImageReference, digests: Iterable[str] = ()) -> None:
        """digests: those that the engine knows the image by, if it has it. Raises ImageUnavailable."""
        known = {reference.digest, *digests} - {""}
        if denied := next((p for p in self.deny if _matches(p, reference, known)), None):
            raise ImageUnavailable(f"image {reference} is denied on this provider (by {denied!r})")
        if not self.allow or any(_matches(p, reference, known) for p in self.allow):
            return
        # Before the image is here only its name is known: a list of digests can't refuse it yet.
        if not known and any(_DIGEST.fullmatch(pattern) for pattern in self.allow):
            return
        raise ImageUnavailable(f"image {reference} is not on this provider's list of allowed images")


def parse_reference(text: str) -> ImageReference:
    """Raises ImageUnavailable, naming what is wrong."""
    if not text or len(text) > _LONGEST_REFERENCE or not text.isascii():
        raise ImageUnavailable(f"image name {text[:80]!r} is empty, longer than 512 characters or not ASCII")
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ImageUnavailable(f"image {text[:80]!r}: the digest must be sha256: and 64 hexadecimal digits")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:  # the colon belongs to a port
        name, tag = rest, ""
    elif not _TAG.fullmatch(tag):
        raise ImageUnavailable(f"image {text[:80]!r}: {tag[:40]!r} is not a tag")
    repository = _normalise(name)
    domain, _, path = repository.partition("/")
    if not (_DOMAIN.fullmatch(domain) and _REPOSITORY.fullmatch(path)) or len(repository) > _LONGEST_NAME:
        raise ImageUnavailable(f"image {text[:80]!r} is not a name like registry.example/path/name:tag")
    if _BARE_ID.fullmatch(name) or name == "sha256":
        raise ImageUnavailable(f"image {text[:80]!r} is a local id; name the image by its repository")
    return ImageReference(repository, tag or ("" if digest else "latest"), digest)


def _normalise(name: str) -> str:
    first, slash, rest = name.partition("/")
    named_domain = slash and (first == "localhost" or any(c in first for c in ".:") or first != first.lower())
    if not named_domain:
        return f"docker.io/{name}" if slash else f"docker.io/library/{name}"
    if first == "index.docker.io":
        first = "docker.io"
    return f"docker.io/library/{rest}" if first == "docker.io" and "/" not in rest else f"{first}/{rest}"


def _matches(pattern: str, reference: ImageReference, digests: set[str]) -> bool:
    if _DIGEST.fullmatch(pattern):
        return pattern in digests
    normal = pattern if pattern.startswith("*") else _normalise(pattern)
    names = {reference.repository, f"{reference.repository}:{reference.tag}"}
    names |= {f"{reference.repository}@{digest}" for digest in digests}
    return any(fnmatchcase(name, normal) for name in names)
