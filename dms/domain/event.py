"""What an event is: a frozen value with a topic and a schema version, and the envelope it is stored in.

Topics, not module paths, name events in the log, so modules may move and history stays readable.
An event read from the log whose topic or version this program does not know becomes an
`Unknown`: it is kept and shown raw, and no fold acts on it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import msgspec
from msgspec import Struct

from dms.domain.chain import id_text
from dms.domain.sealing import SEALED, Opener, erased, put_back, take_out, texts
from dms.errors import LogCorrupt

E = TypeVar("E", bound="type[Event]")
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of all events. Fields hold JSON values only; new fields must have a default."""

    TOPIC: ClassVar[str]
    VERSION: ClassVar[int] = 1
    UPCASTERS: ClassVar[dict[int, Upcaster]] = {}
    """From schema version n to n + 1, on the decoded JSON object."""
    PERSONAL: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Dotted paths of the fields that tell of a person, and what each reads as once erased. See domain/sealing.py."""
    TELLS_ALL: ClassVar[bool] = False
    """What came before it does not count for its aggregate, which may have rules only where no order is asked for."""


class Unknown(Event, frozen=True, kw_only=True, gc=False):
    """An event this program has no class for (written by a newer one)."""

    TOPIC: ClassVar[str] = "unknown"
    topic: str
    version: int
    body: dict[str, Any]


class Recorded(Struct, frozen=True, gc=False):
    """An event with its place in the log. Satisfies eventsourcing's DomainEventProtocol.

    time: Unix time in microseconds, UTC. position: global, gap-free, from 1, in commit order.
    id, correlation, causation: 16 bytes, the last two empty when there is none; their texts are made when asked
    for, since most readers never do. data: the stored JSON, exactly, with its personal fields sealed; `event` has them
    open. hash: the link of the chain here (32 bytes).
    """

    position: int
    originator_id: str
    originator_version: int
    topic: str
    schema_version: int
    time: int
    id: bytes
    correlation: bytes
    causation: bytes
    traceparent: str
    data: bytes
    hash: bytes
    event: Event

    @property
    def event_type(self) -> type[Event]:
        return type(self.event)

    @property
    def kind(self) -> str:
        return self.originator_id.partition("-")[0]

    @property
    def key(self) -> str:
        return self.originator_id.partition("-")[2]

    @property
    def event_id(self) -> str:
        return id_text(self.id)

    @property
    def correlation_id(self) -> str:
        return id_text(self.correlation)

    @property
    def causation_id(self) -> str:
        return id_text(self.causation)


class Unread(Event, frozen=True, gc=False):
    """Stands for an event whose body nobody asked for."""

    TOPIC: ClassVar[str] = "unread"


UNREAD = Unread()


class Fact(Struct, frozen=True, gc=False):
    """The part of a Recorded that folds look at, which a bulk read makes in half the time. The names mean the same.

    kind, key: of the aggregate, whose stream is `<kind>-<key>`. event_type: what `event` is, or would be where it is
    UNREAD.
    """

    position: int
    kind: str
    key: str
    topic: str
    time: int
    event_type: type[Event]
    event: Event

    @property
    def originator_id(self) -> str:
        return f"{self.kind}-{self.key}"


AnyFact = Fact | Recorded
"""What a fold takes: a whole envelope, live, or the part of it that counts there."""

EVENT_TYPES: dict[str, type[Event]] = {}
_encoder = msgspec.json.Encoder()
_object: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_UNREADABLE = (ValueError, RecursionError, LookupError, TypeError, AttributeError)
"""What a body that a peer made up may cause: the last three in an upcaster. ValueError: msgspec's, bytes that are no
UTF-8."""
Reader = Callable[[bytes, Opener | None], Event]
_readers: dict[tuple[str, int], Reader] = {}


def register(cls: E) -> E:
    """Class decorator: makes the event readable from the log by its TOPIC."""
    if cls.TOPIC in EVENT_TYPES:
        raise TypeError(f"two event classes share the topic {cls.TOPIC}")
    if set(cls.UPCASTERS) != set(range(1, cls.VERSION)):
        raise TypeError(f"{cls.TOPIC}: version {cls.VERSION} needs an upcaster from every version before it")
    EVENT_TYPES[cls.TOPIC] = cls
    _readers.clear()
    return cls


def unchanged(body: dict[str, Any]) -> dict[str, Any]:
    """The upcaster of a version whose fields only moved into the sealed part: a body with them open is read too."""
    return body


def encode(event: Event, seal: Callable[[bytes, str], str] | None = None) -> bytes:
    """The JSON object stored in the log. seal: (JSON, topic) -> token; without it personal fields stay open."""
    personal = type(event).PERSONAL
    if seal is None or not personal:
        return _encoder.encode(event)
    body: dict[str, Any] = msgspec.to_builtins(event)
    taken = take_out(body, personal)
    if taken:
        body[SEALED] = seal(_encoder.encode(taken), event.TOPIC)
    return _encoder.encode(body)


def event_type(topic: str, schema_version: int) -> type[Event]:
    """What `decode` makes of such a body: Unknown when this program has no class for it."""
    cls = EVENT_TYPES.get(topic)
    return Unknown if cls is None or schema_version > cls.VERSION else cls


def decode(topic: str, schema_version: int, data: bytes, keys: Opener | None = None) -> Event:
    """The event, upcast to the version this program knows, with its personal fields open as far as the keys are
    there. Raises LogCorrupt on a body that does not fit its schema."""
    return reader(topic, schema_version)(data, keys)


def reader(topic: str, schema_version: int) -> Reader:
    """`decode` for the bodies of one topic and version, chosen once: a bulk read has many of each."""
    found = _readers.get((topic, schema_version))
    if found is None:
        found = _new_reader(topic, schema_version)
        if event_type(topic, schema_version) is not Unknown:  # of those a peer may make up as many as it likes
            _readers[topic, schema_version] = found
    return found


def _new_reader(topic: str, schema_version: int) -> Reader:
    parse = _parser(topic, schema_version)

    def read(data: bytes, keys: Opener | None) -> Event:
        try:
            return parse(data, keys)
        except _UNREADABLE as error:
            raise LogCorrupt(f"event {topic} v{schema_version} can't be read: {error}") from error

    return read


def _parser(topic: str, schema_version: int) -> Reader:
    cls = event_type(topic, schema_version)
    if cls is Unknown:
        return lambda data, _: Unknown(topic=topic, version=schema_version, body=msgspec.json.decode(data))
    if schema_version == cls.VERSION and not cls.PERSONAL:
        decoder = msgspec.json.Decoder(cls)
        return lambda data, _: decoder.decode(data)

    in_place_of_personal = erased(cls.PERSONAL)

    def open_and_upcast(data: bytes, keys: Opener | None) -> Event:
        body = _object.decode(data)
        token = body.pop(SEALED, None)
        if token is not None:
            plain = keys.open(str(token), topic) if keys is not None else None
            put_back(body, in_place_of_personal if plain is None else _object.decode(plain))
        for version in range(schema_version, cls.VERSION):
            body = cls.UPCASTERS[version](body)
        return msgspec.convert(body, cls)

    return open_and_upcast


def misplaced(topic: str, schema_version: int, data: bytes, keys: Opener) -> str:
    """What is wrong with where a peer's readable body has what tells of a person, and what does not; empty for nothing.
    keys: those of its stream alone."""
    if in_the_clear(topic, schema_version, data):
        return "tells of a person in the clear"
    personal = event_type(topic, schema_version).PERSONAL
    body = _object.decode(data) if personal else {}
    if SEALED not in body:
        return ""
    plain = keys.open(str(body[SEALED]), topic)
    if plain is None:
        return "is sealed under a key that is not its job's"
    hidden = _object.decode(plain)
    take_out(hidden, personal)
    return "hides what is to be read without a key" if _has_values(hidden) else ""


def in_the_clear(topic: str, schema_version: int, data: bytes) -> bool:
    """Whether a body has text in personal fields that is not sealed. Raises ValueError for no JSON object."""
    personal = event_type(topic, schema_version).PERSONAL
    return bool(personal) and any(texts(take_out(_object.decode(data), personal)))


def _has_values(body: dict[str, Any]) -> bool:
    return any(_has_values(value) if isinstance(value, dict) else True for value in body.values())


def open_data(recorded: Recorded) -> bytes:
    """The body with its personal fields in the clear, as far as their key is there; else as it is stored."""
    cls = type(recorded.event)
    if not cls.PERSONAL or recorded.schema_version != cls.VERSION:
        return recorded.data
    return encode(recorded.event)


class _Ids:
    """UUIDv7s (RFC 9562, method 1: a 12-bit counter behind the millisecond) that sort by age within
    this process. Random bytes are fetched many at a time: a system call each would cost most of it."""

    def __init__(self) -> None:
        self.draw_from(time.time_ns, os.urandom)

    def draw_from(self, clock_ns: Callable[[], int], random_bytes: Callable[[int], bytes]) -> None:
        """From other sources, anew. clock_ns: Unix time in nanoseconds."""
        self._clock_ns, self._random_bytes = clock_ns, random_bytes
        self._millisecond = self._counter = self._used = 0
        self._random = b""

    def next(self) -> bytes:
        millisecond = self._clock_ns() // 1_000_000
        if millisecond > self._millisecond:
            self._millisecond, self._counter = millisecond, 0
        elif self._counter < 0xFFF:
            self._counter += 1
        else:
            self._millisecond, self._counter = self._millisecond + 1, 0
        if self._used >= len(self._random):
            self._random, self._used = self._random_bytes(4096), 0
        tail = int.from_bytes(self._random[self._used : self._used + 8], "big")
        self._used += 8
        head = self._millisecond << 16 | 0x7000 | self._counter
        return (head << 64 | (tail & _VARIANT_MASK) | _VARIANT).to_bytes(16, "big")


_VARIANT_MASK, _VARIANT = (1 << 62) - 1, 1 << 63
_ids = _Ids()
new_id_bytes = _ids.next
"""A new UUIDv7 as 16 bytes."""
draw_ids_from = _ids.draw_from
"""draw_ids_from(clock_ns, random_bytes): what ids are made of in this process from now on, for a run that can be
repeated. clock_ns: Unix time in nanoseconds."""


def new_id() -> str:
    """A new UUIDv7 as text."""
    return id_text(new_id_bytes())
