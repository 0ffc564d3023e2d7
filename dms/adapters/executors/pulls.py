"""Following the engine's pull of an image: how far it is, and whose trouble it is when it fails.

Whoever asks for an image is told one of a few sentences. More of them would tell a stranger what answers where behind
the provider's walls: a registry of his can send the engine on to any address, and he sees what it makes of that."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct

from dms.adapters.executors.engine import EngineAnswer
from dms.adapters.executors.engine_words import log_words
from dms.adapters.executors.profile import MIB
from dms.domain.decoding import UNREADABLE
from dms.domain.image import ImageReference
from dms.errors import ExecutorUnavailable, ImageUnavailable, NoRoomForImage, RegistryUnavailable

_MESSAGE_BYTES = 1_048_576
# The engine tells its own errors and the registry's only in words. These are about what was asked for: no such
# image, none for this machine, not for us. All others pass, or may: they are tried again.
_LASTING = (
    "manifest unknown", "manifest invalid", "name unknown", "name invalid", "tag invalid", "repository name not known",
    "does not exist", "not found", "denied", "unauthorized", "authentication required", "no basic auth credentials",
    "forbidden", "http 401", "http 403", "http 404", "unknown blob", "blob unknown", "no matching manifest",
    "unsupported", "invalid reference", "invalid repository", "invalid tag", "mediatype", "media type",
    "cannot be used on this platform",
    "unknown: ",  # from Docker 25 on: a status 4xx whose body is not a registry's
)  # fmt: skip
_PASSING = ("toomanyrequests", "too many requests", "http 429", "no such host", "unavailable", "timeout", "x509")
_FULL = ("no space left on device", "disk quota exceeded", "read-only file system")
NOT_GIVEN = "its registry does not have it for this kind of machine, or does not give it to this provider"
TROUBLE = "its registry can't be reached from this provider, or is in trouble"
FULL = "the provider's disk is full"


_Bytes = Annotated[int, Meta(ge=0, le=2**62)]


class _Detail(Struct):
    current: _Bytes | None = None
    total: _Bytes | None = None


class _Message(Struct):
    """A line of what the engine tells; the registry's own words are in `error`, whatever they are."""

    status: str = ""
    id: str = ""
    detail: _Detail | None = msgspec.field(name="progressDetail", default=None)
    error: Any = UNSET


_decoder = msgspec.json.Decoder(_Message)


class Pull:
    """How far a pull is. Bytes of each layer."""

    def __init__(self) -> None:
        self.total: dict[str, int] = {}
        self._done: dict[str, int] = {}

    def take(self, message: _Message) -> None:
        layer, detail = message.id, message.detail or _Detail()
        if detail.total:
            self.total[layer] = max(detail.total, self.total.get(layer, 0))
        if message.status == "Downloading":
            self._done[layer] = detail.current or 0
        elif message.status in {"Download complete", "Pull complete"} and layer in self.total:
            self._done[layer] = self.total[layer]

    def bytes_done(self) -> int:
        return sum(self._done.values())

    def megabytes(self) -> tuple[int, int]:
        """(done, of what was announced so far)"""
        return self.bytes_done() // MIB, sum(self.total.values()) // MIB


def failure(reference: ImageReference, words: str, status: int = 0) -> ImageUnavailable:
    """words: the engine's; status: of its answer, 0 when it had begun to pull."""
    text, nameless = f"image {reference} can't be pulled: ", _without_name(words, reference)
    log_words("get an image", nameless)
    said = nameless.lower()
    if any(sign in said for sign in _FULL):
        return NoRoomForImage(text + FULL)
    passing = any(sign in said for sign in _PASSING)
    if not passing and (status in (400, 404) or any(sign in said for sign in _LASTING)):
        return not_given(reference)
    return RegistryUnavailable(text + TROUBLE)


def not_given(reference: ImageReference) -> ImageUnavailable:
    return ImageUnavailable(f"image {reference} can't be pulled: {NOT_GIVEN}")


def _without_name(words: str, reference: ImageReference) -> str:
    """A name may be made of the very words that are looked for."""
    path = reference.repository.partition("/")[2]
    for named in (reference.repository, f"/v2/{path}/", f"for {path}", f"for {path.removeprefix('library/')}"):
        words = words.replace(named, "")
    return words


async def steps(
    answer: EngineAnswer, reference: ImageReference, max_image_mb: int, state: Pull
) -> AsyncGenerator[None, None]:
    """One for each thing that the engine tells, until the image is here. Raises ImageUnavailable on the engine's
    refusal and for too many bytes, ExecutorUnavailable when the engine goes away."""
    if answer.status != 200:
        raise failure(reference, await answer.refusal(), answer.status)
    rest = b""
    while data := await answer.read():
        *lines, rest = (rest + data).split(b"\n")
        for line in filter(bytes.strip, lines):
            _take(line, reference, max_image_mb, state)
        if len(rest) > _MESSAGE_BYTES:
            break
        yield
    if rest.strip() or not answer.finished:
        raise ExecutorUnavailable(f"Docker ended the pull of image {reference} in the middle")


def _take(line: bytes, reference: ImageReference, max_image_mb: int, state: Pull) -> None:
    try:
        message = _decoder.decode(line)
    except UNREADABLE as error:
        raise ExecutorUnavailable(f"Docker told what can't be read during the pull of image {reference}") from error
    if message.error is not UNSET:
        raise failure(reference, str(message.error))
    state.take(message)
    if sum(state.total.values()) > max_image_mb * MIB:
        raise ImageUnavailable(f"image {reference} is larger than {max_image_mb} MiB")
