"""How large anything may be that a peer says: one table, which all that is read of peers passes.

A peer's message is read into the struct that the program works with, and held against a copy of that struct in which
every field has a bound: its own, that of the table, or the one for its kind of value. So a new field is bounded without
a word here. The structs themselves stay wide where they are stored as well: what an older log has can still be read.
"""

from __future__ import annotations

import types
from collections.abc import Hashable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from dms.domain.decoding import UNREADABLE
from dms.errors import InvalidInput

T = TypeVar("T")

MAX_NTX_PRICE = Decimal(1_000_000)  # NTX a minute
_PRICE_DIGITS = 40

LARGEST_INT = 2**53  # what every JSON reader holds exactly; as Unix µs the year 2255
LARGEST_MB = 2**40
LARGEST_NS = 2**63 - 1  # Unix ns: the year 2262

PLAIN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z"  # what is shown as one line, and moves no cursor

# What holds where nothing else is said. Texts: of reasons, which people read; whole records and lines have their own.
_DEFAULTS: dict[type, Meta] = {
    int: Meta(ge=0, le=LARGEST_INT),
    float: Meta(ge=0, le=1e15),
    str: Meta(max_length=16_384),
    tuple: Meta(max_length=100_000),
    list: Meta(max_length=100_000),
    dict: Meta(max_length=1_000),
}

_PLAIN_ID = Annotated[str, Meta(max_length=256, pattern=PLAIN)]
_MB = Annotated[int, Meta(ge=0, le=LARGEST_MB)]
_TRACE = Annotated[str, Meta(max_length=256, pattern=PLAIN)]
_FRAME_TEXT = Annotated[str, Meta(max_length=262_144)]  # a frame holds no more

# (name of the struct, field) -> what it may be, where that is narrower or wider than its kind.
BOUNDS: dict[tuple[str, str], Any] = {
    ("Resources", "cpu_mhz"): _MB,
    ("Resources", "memory_mb"): _MB,
    ("Resources", "vram_mb"): _MB,
    ("Gpu", "name"): _PLAIN_ID,
    ("Gpu", "uuid"): _PLAIN_ID,
    ("Gpu", "total_vram_mb"): _MB,
    ("Gpu", "free_vram_mb"): _MB,
    ("Offering", "channel"): _PLAIN_ID,
    ("Offering", "cores"): Annotated[int, Meta(ge=0, le=1_000_000)],
    ("Offering", "ntx_price"): _PLAIN_ID,
    ("Offering", "blockchain"): _PLAIN_ID,
    ("Offering", "payment_address"): _PLAIN_ID,
    ("Offering", "features"): Annotated[tuple[_PLAIN_ID, ...], Meta(max_length=64)],
    ("Advertisement", "peer_id"): _PLAIN_ID,
    ("Advertisement", "addresses"): Annotated[tuple[_PLAIN_ID, ...], Meta(max_length=32)],
    ("SignedRecord", "position"): Annotated[int, Meta(ge=1, le=2**62)],
    ("SignedRecord", "version"): Annotated[int, Meta(ge=1, le=2**62)],
    ("SignedRecord", "schema_version"): Annotated[int, Meta(ge=1, le=1_000_000)],
    ("SignedRecord", "stream"): _PLAIN_ID,
    ("SignedRecord", "topic"): _PLAIN_ID,
    ("SignedRecord", "event_id"): _PLAIN_ID,
    ("SignedRecord", "correlation_id"): _PLAIN_ID,
    ("SignedRecord", "causation_id"): _PLAIN_ID,
    ("SignedRecord", "traceparent"): _TRACE,
    ("SignedRecord", "data"): _FRAME_TEXT,
    ("SignedRecord", "previous"): Annotated[str, Meta(max_length=64)],
    ("SignedRecord", "hash"): Annotated[str, Meta(max_length=64)],
    ("SignedRecord", "signature"): Annotated[str, Meta(max_length=256)],
    ("LogLine", "seq"): Annotated[int, Meta(ge=1, le=2**62)],
    ("LogLine", "stream"): Annotated[str, Meta(pattern=r"^(stdout|stderr)\Z", max_length=6)],
    ("LogLine", "time_ns"): Annotated[int, Meta(ge=0, le=LARGEST_NS)],
    ("LogLine", "text"): _FRAME_TEXT,
    ("DeploymentRequest", "traceparent"): _TRACE,
    ("DeploymentRequest", "channel"): _PLAIN_ID,
    ("ContainerExited", "exit_code"): Annotated[int, Meta(ge=-(2**31), le=2**31)],
    ("ContainerExited", "duration_seconds"): Annotated[float, Meta(ge=-1e12, le=1e12)],
    ("Failed", "exit_code"): Annotated[int, Meta(ge=-(2**31), le=2**31)] | None,
    ("Failed", "duration_seconds"): Annotated[float, Meta(ge=-1e12, le=1e12)],
    ("ContainerStarted", "boot_id"): _PLAIN_ID,
    ("Stopped", "exit_code"): Annotated[int, Meta(ge=-(2**31), le=2**31)] | None,
    ("Stopped", "duration_seconds"): Annotated[float, Meta(ge=-1e12, le=1e12)],
}


class Unreadable(ValueError):
    """What a peer sent is no such message, or goes beyond its bounds."""


def read(body: bytes | str, kind: type[T]) -> T:
    """The message in a peer's JSON. Raises Unreadable, and nothing else, whatever the peer sent."""
    checker, decoder = _decoders(cast("Hashable", kind))
    try:
        checker.decode(body)
        found: T = decoder.decode(body)
        return found
    except UNREADABLE as error:
        raise Unreadable(str(error)) from error


def check(value: Struct) -> None:
    """Of what was read otherwise (an event of a peer's, whose body was sealed). Raises Unreadable."""
    try:
        msgspec.convert(msgspec.to_builtins(value), tightened(type(value)))
    except UNREADABLE as error:
        raise Unreadable(str(error)) from error


def ntx_price(text: str) -> Decimal | None:
    """NTX a minute; None for what is not an amount that anybody may ask."""
    try:
        value = Decimal(text)
    except (InvalidOperation, ValueError):
        return None
    if not value.is_finite() or not 0 <= value <= MAX_NTX_PRICE:
        return None
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or not -_PRICE_DIGITS <= exponent <= _PRICE_DIGITS:
        return None
    return value


def check_ntx_price(price: Decimal) -> None:
    """Of this device's own. Raises InvalidInput."""
    if ntx_price(str(price)) is not None:
        return
    text = "'ntx-price' must be a positive value"
    if price.is_finite() and price > MAX_NTX_PRICE:
        text = f"'ntx-price' must be at most {MAX_NTX_PRICE:f} NTX a minute"
    elif price.is_finite() and price >= 0:
        text = f"'ntx-price' must have at most {_PRICE_DIGITS} decimal places"
    raise InvalidInput(text, [("/ntx_price", f"0 to {MAX_NTX_PRICE:f} NTX a minute")])


def time_text(time_ns: int) -> str:
    """Unix ns as ISO 8601 in UTC, of lines that an older version may have stored with any time: what is out of range
    is shown as the end of the range."""
    seconds = min(max(time_ns, 0), LARGEST_NS) / 1e9
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


@cache
def _decoders(kind: Any) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]]:
    return msgspec.json.Decoder(tightened(kind)), msgspec.json.Decoder(kind)


@cache
def tightened(kind: Any) -> Any:
    """The type with a bound on each value in it."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return _tightened_struct(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _with_default(tightened_inside(inner[0]), inner[0], [m for m in inner[1:] if isinstance(m, Meta)])
    if origin in (Union, types.UnionType):
        return Union[tuple(tightened(part) for part in inner)]  # noqa: UP007 -- made from a list
    return _with_default(tightened_inside(kind), kind, [])


def tightened_inside(kind: Any) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (tuple, list, dict) and inner:
        return origin[tuple(part if part is ... else tightened(part) for part in inner)]
    return tightened(kind) if isinstance(kind, type) and issubclass(kind, Struct) else kind


def _with_default(kind: Any, plain: Any, own: list[Meta]) -> Any:
    """Its own bounds, and those of its kind where it has none."""
    default = None if _has_fixed_length(plain) else _DEFAULTS.get(get_origin(plain) or plain)
    given = {name: value for meta in own for name, value in _bounds_of(meta).items()}
    if default is not None:
        for name, value in _bounds_of(default).items():
            exclusive = {"ge": "gt", "le": "lt"}.get(name, name)
            if name not in given and exclusive not in given:
                given[name] = value
    return Annotated[kind, Meta(**given)] if given else kind


def _has_fixed_length(kind: Any) -> bool:
    return get_origin(kind) is tuple and ... not in get_args(kind)


def _bounds_of(meta: Meta) -> dict[str, Any]:
    names = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length")
    return {name: value for name in names if (value := getattr(meta, name)) is not None}


def _tightened_struct(cls: type[Struct]) -> Any:
    fields: list[Any] = []
    for field in msgspec.structs.fields(cls):
        kind = BOUNDS.get((cls.__name__, field.name), field.type)
        if field.default is not msgspec.NODEFAULT:
            fields.append((field.encode_name, tightened(kind), msgspec.field(default=field.default)))
        elif field.default_factory is not msgspec.NODEFAULT:
            fields.append((field.encode_name, tightened(kind), msgspec.field(default_factory=field.default_factory)))
        else:
            fields.append((field.encode_name, tightened(kind)))
    config = cls.__struct_config__
    return msgspec.defstruct(
        f"Bounded{cls.__name__}",
        fields,
        kw_only=not config.array_like,
        array_like=config.array_like,
        forbid_unknown_fields=config.forbid_unknown_fields,
        gc=False,
    )
