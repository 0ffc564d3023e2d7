"""Whether the operator lets an image run. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from msgspec import Struct

from dms.domain.image import ImageReference, host_of, is_inner, normalised, parse_image
from dms.errors import ImageUnavailable, InvalidInput

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ImagePolicy(Struct, frozen=True):
    """Patterns: `busybox`, `ghcr.io/nunet/*`, `name:tag`, `sha256:...`. An empty allow list allows all, but for
    registries at addresses and names of inner networks: those only a pattern that names them allows.
    What is denied is denied even if it is allowed."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def check(self, reference: ImageReference, digests: Iterable[str] = ()) -> None:
        """digests: those that the engine knows the image by, if it has it. Raises ImageUnavailable."""
        known = {reference.digest, *digests} - {""}
        if denied := next((p for p in self.deny if _matches(p, reference, known)), None):
            raise ImageUnavailable(f"image {reference} is denied on this provider (by {denied!r})")
        if is_inner(reference.registry) and not self.names_registry(reference):
            raise inner_registry(reference)
        if not self.allow or any(_matches(p, reference, known) for p in self.allow):
            return
        # Before the image is here only its name is known: a list of digests can't refuse it yet.
        if not known and any(_DIGEST.fullmatch(pattern) for pattern in self.allow):
            return
        raise ImageUnavailable(f"image {reference} is not on this provider's list of allowed images")

    def names_registry(self, reference: ImageReference) -> bool:
        """Whether a pattern that allows the image says which registry it is from."""
        return any(_names_its_registry(pattern) and _matches(pattern, reference, set()) for pattern in self.allow)


def inner_registry(reference: ImageReference) -> ImageUnavailable:
    return ImageUnavailable(
        f"image {reference}: this provider asks no registry at an address or a name of an inner network; "
        f"its operator may allow it (job.image_allow: {reference.registry}/*)"
    )


def parse_reference(text: str) -> ImageReference:
    """Raises ImageUnavailable, naming what is wrong."""
    try:
        return parse_image(text)
    except InvalidInput as error:
        raise ImageUnavailable(str(error)) from error


def _names_its_registry(pattern: str) -> bool:
    if _DIGEST.fullmatch(pattern) or pattern.startswith("*"):
        return False
    return not set("*?[") & set(host_of(normalised(pattern).partition("/")[0]))


def _matches(pattern: str, reference: ImageReference, digests: set[str]) -> bool:
    if _DIGEST.fullmatch(pattern):
        return pattern in digests
    normal = pattern if pattern.startswith("*") else normalised(pattern)
    names = {reference.repository, f"{reference.repository}:{reference.tag}"}
    names |= {f"{reference.repository}@{digest}" for digest in digests}
    return any(fnmatchcase(name, normal) for name in names)
