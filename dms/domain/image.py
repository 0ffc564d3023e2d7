"""What the name of an image means. Pure.

Everything is decided on the normalised form (`busybox` is `docker.io/library/busybox:latest`), so that
no other spelling of a name means something else.
Source of the grammar: OCI distribution-spec, and the reference grammar of the Docker registry.
"""

from __future__ import annotations

import ipaddress
import re

from msgspec import Struct

from dms.errors import InvalidInput

_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)"
_DOMAIN = re.compile(rf"(?:{_HOST}(?:\.{_HOST})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_REPOSITORY = re.compile(rf"{_PATH}(?:/{_PATH})*")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BARE_ID = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME = 255  # of domain and path, as the registry has it
_LONGEST_REFERENCE = 512
_EXAMPLE = "registry.example/path/name:tag"
# Names that are only known inside of a network: RFC 6761, 6762, 8375, ICANN's reserved ones and common habits.
_INNER = ("localhost", "local", "internal", "localdomain", "lan", "home", "corp", "intranet", "private", "home.arpa")


class ImageReference(Struct, frozen=True):
    """repository: with its registry's domain. tag is empty where only a digest was given."""

    repository: str
    tag: str
    digest: str

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def registry(self) -> str:
        """Host, with its port if it has one."""
        return self.repository.partition("/")[0]


def parse_image(text: str) -> ImageReference:
    """Raises InvalidInput, naming what is wrong and what is expected."""
    shown = repr(text[:80])
    if not text or len(text) > _LONGEST_REFERENCE or not text.isascii():
        raise InvalidInput(
            f"image name {shown} is empty, longer than {_LONGEST_REFERENCE} characters or not ASCII; "
            f"expected a name like {_EXAMPLE}"
        )
    if "://" in text:
        raise InvalidInput(f"image {shown} is an address; write the name alone, like {_EXAMPLE}")
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidInput(f"image {shown}: the digest must be sha256: and 64 hexadecimal digits, in lower case")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:  # the colon belongs to a port
        name, tag = rest, ""
    elif not _TAG.fullmatch(tag):
        raise InvalidInput(
            f"image {shown}: {tag[:40]!r} is not a tag: at most 128 letters, digits, '_', '.' and '-', the first "
            "neither '.' nor '-'"
        )
    repository = normalised(name)
    domain, _, path = repository.partition("/")
    if len(repository) > _LONGEST_NAME:
        raise InvalidInput(
            f"image {shown}: registry and path have {len(repository)} characters; at most {_LONGEST_NAME} may be"
        )
    if _DOMAIN.fullmatch(domain) and not _REPOSITORY.fullmatch(path) and _REPOSITORY.fullmatch(path.lower()):
        raise InvalidInput(f"image {shown}: the path of an image is written in lower case: {path.lower()[:80]!r}")
    if not (_DOMAIN.fullmatch(domain) and _REPOSITORY.fullmatch(path)):
        raise InvalidInput(f"image {shown} is not a name like {_EXAMPLE}")
    if _BARE_ID.fullmatch(name) or name == "sha256":
        raise InvalidInput(f"image {shown} is a local id; name the image by its repository")
    return ImageReference(repository, tag or ("" if digest else "latest"), digest)


def normalised(name: str) -> str:
    first, slash, rest = name.partition("/")
    named_domain = slash and (first == "localhost" or any(c in first for c in ".:") or first != first.lower())
    if not named_domain:
        return f"docker.io/{name}" if slash else f"docker.io/library/{name}"
    if first == "index.docker.io":
        first = "docker.io"
    return f"docker.io/library/{rest}" if first == "docker.io" and "/" not in rest else f"{first}/{rest}"


def host_of(registry: str) -> str:
    """Without the port, and without the brackets of an IPv6 address."""
    if registry.startswith("["):
        return registry[1:].partition("]")[0]
    return registry.partition(":")[0]


def is_inner(registry: str) -> bool:
    """Whether its name alone says that it is an address, or a name that only some network knows. Whoever names an
    image chooses whom the engine asks: from the provider's machine, behind its walls."""
    host = host_of(registry).lower()
    labels = host.split(".")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        numeric = labels[-1].isdecimal() or labels[-1].startswith("0x")  # 127.1, 0x7f000001: resolvers take them
        return len(labels) == 1 or numeric or any(host == name or host.endswith(f".{name}") for name in _INNER)
    return True
