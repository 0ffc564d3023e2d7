"""Whether the operator's configuration lets an image run. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from dms.domain.image import ImageReference, is_inner, parse_image
from dms.domain.image_patterns import allows, first_match, names_its_registry
from dms.errors import ImageUnavailable, InvalidInput


class ImagePolicy(Struct, frozen=True):
    """Patterns as in domain/image_patterns.py. An empty allow list allows all, but for registries at addresses and
    names of inner networks: those only a pattern that names them allows. What is denied is denied even if it is
    allowed."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def check(self, reference: ImageReference, digests: Iterable[str] = ()) -> None:
        """digests: those that the engine knows the image by, if it has it. Raises ImageUnavailable."""
        known = {reference.digest, *digests} - {""}
        if denied := first_match(self.deny, reference, known):
            raise ImageUnavailable(f"image {reference} is denied on this provider (by {denied!r})")
        if is_inner(reference.registry) and not self.names_registry(reference):
            raise inner_registry(reference)
        if not allows(self.allow, reference, known):
            raise ImageUnavailable(f"image {reference} is not on this provider's list of allowed images")

    def names(self, reference: ImageReference, digests: Iterable[str]) -> bool:
        """Whether a pattern allows it that does not allow all there is."""
        chosen = (pattern for pattern in self.allow if pattern.strip("*/"))
        return first_match(chosen, reference, {reference.digest, *digests} - {""}) is not None

    def names_registry(self, reference: ImageReference) -> bool:
        """Whether a pattern that allows the image says which registry it is from."""
        return first_match(filter(names_its_registry, self.allow), reference, set()) is not None


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
