"""What comes from other peers: frames, messages, records, advertisements, heads, addresses."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import trio

from dms.adapters.p2p import exchange, names
from dms.adapters.p2p.addresses import AddressBook, DnsAddr, dialable, listenable, read_bootstrap, remarks_on
from dms.adapters.p2p.framing import MAX_FRAME, Wire, encode_frame
from dms.adapters.p2p.identity import public_key, verify_signature
from dms.adapters.p2p.remembered import RememberedPeers
from dms.application.network.messages import (
    DeploymentRequest,
    FeedItem,
    HeadShown,
    decode_answer,
    decode_request,
    encode,
)
from dms.application.records.spans import _trace
from dms.domain import bounds
from dms.domain.bounds import Unreadable, check, ntx_price
from dms.domain.chain import SignedRecord, check_record, record_hash
from dms.domain.directory import Advertisement, SignedAdvertisement, check_advertisement, read_advertisement
from dms.domain.event import EVENT_TYPES, decode, misplaced
from dms.domain.heads import Heads, is_genuine, signed_by_author, whose
from dms.domain.inner_addresses import is_inner_address
from dms.domain.machine_checks import address_row
from dms.domain.origin import is_loopback, origin_of
from dms.domain.peer_id import is_peer_id
from dms.domain.reward import Outcome, amount, reward
from dms.errors import ConfigError, InvalidInput, LogCorrupt, PeerMisbehaved, PeerUnreachable
from tests.fixtures.extremes import read_from_peers, sample
from tests.fuzz.target import Target, split, written

PEER = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
KINDS = read_from_peers()
TOPICS = sorted(EVENT_TYPES)
BODIES = Path(__file__).parents[2] / "corpus"  # of each event and version, as older programs wrote it
UNKNOWN = "deployment.of_tomorrow"


def chosen(kinds: list[Any], data: bytes) -> tuple[Any, bytes]:
    """The first byte says which, so that one target has a place for each."""
    return kinds[data[0] % len(kinds)] if data else kinds[0], data[1:]


# --- messages -----------------------------------------------------------------------------------------
def message(data: bytes) -> None:
    kind, body = chosen(KINDS, data)
    found = bounds.read(body, kind)
    again = bounds.read(encode(found), kind)
    assert again == found, f"{kind.__name__} is another once it was written"


def asked(data: bytes) -> None:
    decode_request(data, DeploymentRequest)


def answered(data: bytes) -> None:
    decode_answer(PEER, data, FeedItem)


def _messages() -> tuple[bytes, ...]:
    return tuple(bytes([number]) + msgspec.json.encode(sample(kind)) for number, kind in enumerate(KINDS))


# --- frames -------------------------------------------------------------------------------------------
class _Stream:
    """Gives what it has in pieces, then ends."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self.muxed_conn = self
        self.muxed_stream = self
        self.peer_id = PEER

    async def read(self, _size: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def driven(work: Coroutine[Any, Any, Any]) -> Any:
    """What never waits needs no loop."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def frames(data: bytes) -> None:
    wire = Wire(_Stream(list(split(data))))  # type: ignore[arg-type]  # as much of a stream as is read

    async def all_of_them() -> None:
        while True:
            body = await wire.read_bytes(await wire._read_length(MAX_FRAME))
            assert len(body) <= MAX_FRAME
            exchange._decode(body, PEER)

    with suppress(PeerUnreachable):  # the end of what there is
        trio.run(all_of_them)


# --- records ------------------------------------------------------------------------------------------
class _Keys:
    """Opens nothing, or all, to what is sealed in it."""

    def open(self, token: str, topic: str) -> bytes | None:
        return token[4:].encode() if token.startswith("key.") else None


def event(data: bytes) -> None:
    """As `open_record` and what follows it. Two bytes choose the topic and the version."""
    topic, rest = chosen([*TOPICS, UNKNOWN], data)
    version = rest[0] % 5 if rest else 1
    found = decode(topic, version, rest[1:], _Keys())
    misplaced(topic, version, rest[1:], _Keys())
    check(found)


def record(data: bytes) -> None:
    found = bounds.read(data, SignedRecord)
    link = record_hash(found, "a record")
    honest = msgspec.structs.replace(found, hash=link.hex(), signature="00" * 64)
    check_record(honest, PEER, lambda *_: True)


def _events() -> tuple[bytes, ...]:
    seeds = []
    for number, topic in enumerate(TOPICS):
        cls = EVENT_TYPES[topic]
        seeds.append(bytes([number, cls.VERSION]) + msgspec.json.encode(sample(cls)))
        seeds += [
            bytes([number, version]) + (BODIES / f"{topic}.v{version}.json").read_bytes()
            for version in range(1, cls.VERSION)
        ]
    return (*seeds, bytes([len(TOPICS), 1]) + b"{}")  # and of a newer program


_RECORD = {
    "position": 1, "stream": "deployment-1", "version": 1, "topic": "deployment.requested", "schema_version": 3,
    "time": 1, "event_id": "01890a5d-ac96-774b-bcce-b302099a8057", "correlation_id": "", "causation_id": "",
    "traceparent": "", "data": "{}", "previous": "00" * 32, "hash": "00" * 32, "signature": "00" * 64,
}  # fmt: skip


# --- advertisements and heads ---------------------------------------------------------------------------
def advertisement(data: bytes) -> None:
    signed = bounds.read(data, SignedAdvertisement)
    found = read_advertisement(signed)
    check_advertisement(signed, found, found.expires_at - 1, lambda *_: True)


def advertised_body(data: bytes) -> None:
    """The text that is signed, without the JSON around it."""
    signed = SignedAdvertisement(body=data.decode("latin-1"), signature="00" * 64)
    found = read_advertisement(signed)
    check_advertisement(signed, found, found.expires_at - 1, lambda *_: True)


def heads(data: bytes) -> None:
    shown = bounds.read(data, HeadShown)
    signed_by_author(shown.head, verify_signature)


def kept_heads(data: bytes) -> None:
    kept = bounds.read(data, Heads)
    for found in (*kept.own, *kept.seen):
        is_genuine(found, lambda *_: True)
    whose([kept], lambda _: None)


# --- texts --------------------------------------------------------------------------------------------
def address(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    public_key(text), is_peer_id(text), dialable(text), origin_of(text), is_loopback(text)
    address_row([text]), is_inner_address(text), _trace(text, "01890a5d-ac96-774b-bcce-b302099a8057")
    AddressBook().add(PEER, text.split("\n"))
    try:
        listenable([text])
    except ConfigError:
        remarks_on([text])
    read_bootstrap(text)


def names_of_peers(data: bytes) -> None:
    """What a DNS server answers for /dnsaddr/NAME: each line is a record."""

    class Record:
        def __init__(self, text: bytes) -> None:
            self.strings = (text[:255], text[255:])

    class Resolver:
        async def resolve(self, *_args: object, **_more: object) -> list[Record]:
            return [Record(line) for line in data.split(b"\n")]

    entry = read_bootstrap("/dnsaddr/example.org")
    assert isinstance(entry, DnsAddr)
    kept, names.make_resolver = names.make_resolver, Resolver  # type: ignore[assignment]
    try:
        found = driven(names._behind(entry, 1))
    finally:
        names.make_resolver = kept
    assert len(found) <= 64
    assert all(dialable(where) for _, where in found)


def remembered(data: bytes) -> None:
    RememberedPeers(written(data)).load()


def price(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    if (found := ntx_price(text)) is not None:
        assert 0 <= found <= bounds.MAX_NTX_PRICE
    amount(text)
    reward(text, 60, Outcome(completed=False, duration_seconds=1800))


_LINE = b'{"lines":[[1,"stdout",1,"a"]],"records":[],"growing":[]}'
_ADVERTISED = msgspec.json.encode(sample(Advertisement)).replace(b'"ntx_price":"x"', b'"ntx_price":"1"')
TARGETS = (
    Target("peer-messages", message, (Unreadable,), _messages()),
    Target("peer-requests", asked, (InvalidInput,), (msgspec.json.encode(sample(DeploymentRequest)),)),
    Target("peer-answers", answered, (PeerMisbehaved,), (msgspec.json.encode(sample(FeedItem)), _LINE)),
    Target(
        "peer-frames",
        frames,
        (PeerMisbehaved,),
        (b"\x07" + encode_frame(b'{"item":{}}') * 3, b"\x00" + encode_frame(b'{"end":true}'), b"\x01\xff\xff\xff\xff"),
    ),
    Target("peer-events", event, (LogCorrupt, Unreadable), _events()),
    Target("peer-records", record, (Unreadable, PeerMisbehaved), (msgspec.json.encode(_RECORD),)),
    Target(
        "peer-advertisements",
        advertisement,
        (Unreadable, PeerMisbehaved),
        (encode(SignedAdvertisement(body=_ADVERTISED.decode(), signature="00")),),
    ),
    Target("peer-advertised", advertised_body, (PeerMisbehaved,), (_ADVERTISED,)),
    Target("peer-heads", heads, (Unreadable,), (msgspec.json.encode(sample(HeadShown)),)),
    Target("kept-heads", kept_heads, (Unreadable, InvalidInput), (msgspec.json.encode(sample(Heads)),)),
    Target(
        "addresses",
        address,
        (ConfigError,),
        (
            f"/ip4/1.2.3.4/tcp/9876/p2p/{PEER}".encode(),
            b"/ip6/::1/tcp/1",
            b"/dns4/a.example/tcp/1",
            b"10.0.0.1",
            b"/dnsaddr/x.example",
            b"fe80::1%eth0",
            b"::ffff:127.0.0.1",
            PEER.encode(),
            b"/ip4/0.0.0.0/udp/1/quic-v1",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
    ),
    Target(
        "names-of-peers",
        names_of_peers,
        (),
        (f"dnsaddr=/ip4/1.2.3.4/tcp/1/p2p/{PEER}\ndnsaddr=/dnsaddr/y.example\nx=y".encode(),),
    ),
    Target(
        "remembered-peers",
        remembered,
        (),
        (b'[{"peer_id":"' + PEER.encode() + b'","addresses":["/ip4/1.1.1.1/tcp/1"],"seen_at":1}]',),
    ),
    Target(
        "prices", price, (InvalidInput,), (b"0.5", b"1e-8", b"1e-99999999", b"1E+15", b"NaN", b"sNaN", b"-0", b"0e9")
    ),
)
