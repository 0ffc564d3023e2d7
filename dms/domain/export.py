"""A log, or one job of it, as lines of JSON that prove themselves: what each event was, in what order, and who says so.

First a header, then one record a line, last a footer with the author's signature of the head. In an export of a whole
log the hash chain proves the order of all events; in that of one job, whose events are not neighbours, each record
carries a signature of its own. Nothing but this file is needed to check it: a peer id holds the public key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from dms.domain.chain import GENESIS, SignedRecord, check_record, record_hash
from dms.domain.decoding import UNREADABLE
from dms.errors import LogCorrupt, PeerMisbehaved

Verify = Callable[[str, bytes, bytes], bool]
"""(peer id, message, signature) -> whether that peer signed it."""
Position = Annotated[int, Meta(ge=0)]
T = TypeVar("T", bound=Struct)


class Header(Struct, frozen=True, kw_only=True, tag="header", tag_field="line"):
    """kind: "log": every event from `first` on; "job": those of one job. peer_id: whose log it is. previous: the hash
    before the first event of a log."""

    format: Literal[1] = 1
    kind: Literal["log", "job"]
    peer_id: Annotated[str, Meta(max_length=128)]
    job_id: str = ""
    first: Position = 1
    previous: str = GENESIS.hex()


class Footer(Struct, frozen=True, kw_only=True, tag="footer", tag_field="line"):
    """events: how many records. position, hash: of the author's newest event when this was written. content: SHA-256
    of all lines before. signature: of `statement`, hex."""

    events: Position
    position: Position
    hash: str
    content: str
    signature: str


def head_statement(peer_id: str, position: int, link: str) -> bytes:
    """What is signed of a log's head: by its author, and by peers who have seen it. link: hex."""
    return f"nunet-dms head of {peer_id}: {position} {link}".encode()


def footer_statement(peer_id: str, position: int, link: str, content: str) -> bytes:
    return head_statement(peer_id, position, link) + f", export {content}".encode()


encode_line = msgspec.json.Encoder().encode
_record = msgspec.json.Decoder(SignedRecord)
_header = msgspec.json.Decoder(Header)
_footer = msgspec.json.Decoder(Footer)
_body = msgspec.json.Decoder(dict[str, msgspec.Raw])
decode_footer = _footer.decode


class Writer:
    """Makes the lines one after the other, each with its line break."""

    def __init__(self, header: Header, sign: Callable[[bytes], bytes]) -> None:
        self._header, self._sign = header, sign
        self._content = hashlib.sha256()
        self._events = 0

    def begin(self) -> bytes:
        return self._line(encode_line(self._header))

    def record(self, record: SignedRecord) -> bytes:
        self._events += 1
        return self._line(encode_line(record))

    def end(self, position: int, link: str) -> bytes:
        """position, link: of the log's head."""
        content = self._content.hexdigest()
        signature = self._sign(footer_statement(self._header.peer_id, position, link, content)).hex()
        footer = Footer(events=self._events, position=position, hash=link, content=content, signature=signature)
        return encode_line(footer) + b"\n"

    def _line(self, body: bytes) -> bytes:
        line = body + b"\n"
        self._content.update(line)
        return line


class Checker:
    """Checks the lines of an export one after the other; raises LogCorrupt at the first that does not fit.
    The header is known after the first line, the footer after the last."""

    def __init__(self, verify: Verify) -> None:
        self.verify = verify
        self._content = hashlib.sha256()
        self._versions: dict[str, int] = {}
        self._position, self._link = 0, GENESIS
        self._events = 0
        self.header: Header | None = None
        self.footer: Footer | None = None

    def records(self, lines: Iterable[bytes]) -> Iterator[SignedRecord]:
        """Each record once it is checked. Exhaust it: the footer is checked last."""
        for number, line in enumerate(lines, 1):
            if self.footer is not None:
                raise LogCorrupt(f"line {number}: something follows the footer")
            if self.header is None:
                self._begin(line)
            elif line.startswith(b'{"line":'):
                self.footer = _decoded(_footer, line, number)
                self._end(self.header, self.footer)
                continue
            else:
                record = _decoded(_record, line, number)
                self._check(self.header, record, number)
                yield record
            self._content.update(line)
        if self.footer is None:
            raise LogCorrupt("the export has no footer: it was cut off, or is still being written")

    def _begin(self, line: bytes) -> None:
        self.header = _decoded(_header, line, 1)
        self._position = self.header.first - 1
        self._link = _bytes(self.header.previous)

    def _check(self, header: Header, record: SignedRecord, number: int) -> None:
        where = f"line {number}, position {record.position} ({record.topic} of {record.stream})"
        if header.kind == "log":
            if record.position != self._position + 1:
                raise LogCorrupt(f"{where}: position {self._position + 1} was expected here")
            if _link(record, where, self._link) != record.hash:
                raise LogCorrupt(f"{where} was changed: its hash does not fit")
            self._link = bytes.fromhex(record.hash)
        else:
            self._check_single(header, record, where)
        self._check_version(header, record, where)
        _check_body(record, where)
        self._position = record.position
        self._events += 1

    def _check_single(self, header: Header, record: SignedRecord, where: str) -> None:
        if record.position <= self._position:
            raise LogCorrupt(f"{where}: positions must ascend, the one before is {self._position}")
        if record.stream.partition("-")[2] != header.job_id:
            raise LogCorrupt(f"{where} is not of job {header.job_id}")
        try:
            check_record(record, header.peer_id, self.verify)
        except PeerMisbehaved as error:
            raise LogCorrupt(f"{where}: {error}") from error

    def _check_version(self, header: Header, record: SignedRecord, where: str) -> None:
        """A part of a log may begin in the middle of a stream."""
        known = self._versions.get(record.stream, 0)
        if record.version != known + 1 and (known or header.first == 1 or record.version < 1):
            raise LogCorrupt(f"{where}: version {known + 1} of {record.stream} belongs here, not {record.version}")
        self._versions[record.stream] = record.version

    def _end(self, header: Header, footer: Footer) -> None:
        if footer.events != self._events:
            raise LogCorrupt(f"the footer counts {footer.events} records, there are {self._events}: lines are missing")
        if footer.content != self._content.hexdigest():
            raise LogCorrupt("the lines are not those that were signed: the footer's digest does not fit")
        if header.kind == "log" and (footer.position, footer.hash) != (self._position, self._link.hex()):
            raise LogCorrupt(f"the export ends at position {self._position}, its head is {footer.position}")
        said = footer_statement(header.peer_id, footer.position, footer.hash, footer.content)
        if not self.verify(header.peer_id, said, _bytes(footer.signature)):
            raise LogCorrupt(f"the footer is not signed by {header.peer_id}")


def _link(record: SignedRecord, where: str, previous: bytes) -> str:
    try:
        return record_hash(record, where, previous).hex()
    except PeerMisbehaved as error:
        raise LogCorrupt(str(error)) from error


def _check_body(record: SignedRecord, where: str) -> None:
    try:
        _body.decode(record.data)
    except UNREADABLE as error:
        raise LogCorrupt(f"{where}: its data are not a JSON object: {error}") from error


def _bytes(text: str) -> bytes:
    """Of hex; empty for what is none."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _decoded(decoder: msgspec.json.Decoder[T], line: bytes, number: int) -> T:
    try:
        return decoder.decode(line)
    except UNREADABLE as error:
        raise LogCorrupt(f"line {number} can't be read: {error}") from error
