"""The inputs of a job: what its provider puts into the workspace before the container starts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated
from urllib.parse import SplitResult, unquote, urlsplit

from msgspec import Meta, Struct

from dms.domain.checkpoint import LARGEST_BYTES

MOST_INPUTS = 64
MOST_URL_BYTES = 4_096
MOST_PATH_BYTES, MOST_NAME_BYTES, DEEPEST = 1_024, 255, 32  # of a path, of one part of it (as Linux has it), of parts
SUFFIXES = {"tar": (".tar",), "tar.gz": (".tar.gz", ".tgz"), "zip": (".zip",)}
RESERVED = ".dms-incoming"  # where a provider may lay an input until all of it is there
WEB, FILE = ("http", "https"), "file"


class Input(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """url: http, https, or file: for a file on the requester's machine. sha256: hex, of the bytes that are fetched;
    empty: they are taken as they come. path: where it goes, below /workspace; empty: named after the last part of the
    URL. unpack: what kind of archive it is, whose content is then a folder at that path; empty: it stays as it is.
    size_bytes: of a file of the requester's, filled in by its DMS."""

    url: Annotated[str, Meta(min_length=1, max_length=MOST_URL_BYTES)]
    sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    path: Annotated[str, Meta(max_length=MOST_PATH_BYTES)] = ""
    unpack: Annotated[str, Meta(max_length=16)] = ""
    size_bytes: Annotated[int, Meta(ge=0, le=LARGEST_BYTES)] = 0

    @property
    def place(self) -> str:
        """Where it is below /workspace: the file, or the folder with what was in the archive."""
        if self.path:
            return "/".join(part for part in self.path.split("/") if part not in ("", "."))
        name = last_part(self.url)
        suffix = next((end for end in SUFFIXES.get(self.unpack, ()) if name.lower().endswith(end)), "")
        return name[: -len(suffix)] if suffix and len(name) > len(suffix) else name

    @property
    def is_file(self) -> bool:
        """Whether the requester itself has it."""
        return scheme_of(self.url) == FILE

    def source(self, peer_id: str) -> str:
        """Who gives it. peer_id: of the requester."""
        return peer_id if self.is_file else self.url


def scheme_of(url: str) -> str:
    return url.partition(":")[0].lower()


def last_part(url: str) -> str:
    """Of the path; percent signs decoded. Empty where there is none, or no URL."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return ""
    return unquote(path).rpartition("/")[2]


def shown(url: str) -> str:
    """For messages and logs: what follows the path may be a secret (a signed link)."""
    return url.partition("?")[0].partition("#")[0]


def problems_of_inputs(inputs: Sequence[Input]) -> list[tuple[str, str]]:
    """(JSON pointer, what is wrong), as far as the inputs themselves tell."""
    found: list[tuple[str, str]] = []
    for number, one in enumerate(inputs):
        at = f"/params/inputs/{number}"
        if problem := _problem_of_url(one.url):
            found.append((f"{at}/url", problem))
        elif problem := _problem_of_place(one):
            found.append((f"{at}/path", problem))
        if one.unpack and one.unpack not in SUFFIXES:
            text = f"{one.unpack!r} can't be unpacked; tar, tar.gz or zip"
            found.append((f"{at}/unpack", text))
    return found or list(_overlaps(inputs))


def _problem_of_url(url: str) -> str:
    if any(c.isspace() or not c.isprintable() for c in url):
        return "has blanks or characters that can't be shown; write them as %20 and the like"
    scheme = scheme_of(url)
    if scheme not in (*WEB, FILE):
        return f"{shown(url)[:100]!r} is not a URL that can be fetched: http, https or file"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is not a URL: {error}"
    return _problem_of_file(parts) if scheme == FILE else _problem_of_web(parts, port)


def _problem_of_file(parts: SplitResult) -> str:
    if parts.netloc not in ("", "localhost"):
        return f"names the machine {parts.netloc[:64]!r}; a file of this machine is file:/path"
    return "" if last_part(parts.geturl()) else "names no file; file:/path is expected"


def _problem_of_web(parts: SplitResult, port: int | None) -> str:
    if not parts.hostname:
        return "names no host"
    if "@" in parts.netloc:
        return "has a user name or password, which would be sent to whoever answers; use a signed link"
    return "port 0 can't be connected to" if port == 0 else ""


def _problem_of_place(one: Input) -> str:
    if not one.path and one.place in ("", ".", ".."):
        return "the URL ends with no name that a file can have; say where it goes"
    if one.path.startswith("/"):
        return f"{one.path[:100]!r} is absolute; it is relative to /workspace"
    parts = one.place.split("/")
    if parts == [""]:
        return "names the workspace itself; a path in it is expected"
    if ".." in parts:
        return f"{one.path[:100]!r} leads out of the workspace ('..')"
    if parts[0] == RESERVED:
        return f"begins with {RESERVED}, which the provider needs for itself; give another path"
    if not one.place.isprintable() or "\\" in one.place:
        return "has characters that can't be shown, or a backslash"
    if len(parts) > DEEPEST or len(one.place.encode()) > MOST_PATH_BYTES:
        return f"is deeper than {DEEPEST} folders, or longer than {MOST_PATH_BYTES} bytes"
    if any(len(part.encode()) > MOST_NAME_BYTES for part in parts):
        return f"has a part longer than {MOST_NAME_BYTES} bytes"
    return ""


def _overlaps(inputs: Sequence[Input]) -> Iterator[tuple[str, str]]:
    """An input's place is its own: nothing else is there, nor in it."""
    places = sorted((tuple(one.place.split("/")), number) for number, one in enumerate(inputs))
    for (outer, first), (inner, second) in pairwise(places):
        if inner[: len(outer)] == outer:
            what = "is the path" if inner == outer else "lies inside"
            yield f"/params/inputs/{second}/path", f"{'/'.join(inner)!r} {what} of input {first + 1}; give another path"
