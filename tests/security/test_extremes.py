"""What a peer may send in place of any field: it is refused in words of ours, or does no harm, far away included.

The messages and the places in them are found by introspection: a field that is new is tried here by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from dms.adapters.http.action_frames import Flavour, action_frame, line_frames
from dms.adapters.p2p.addresses import AddressBook, read_bootstrap
from dms.adapters.p2p.discovery import Discovery
from dms.adapters.p2p.exchange import Answer
from dms.adapters.p2p.identity import Identity
from dms.application.files.file_exchange import FILE, FetchRequest, FileExchange
from dms.application.jobs.follow_deployments import Contact, FollowDeployments
from dms.application.jobs.followed_output import FollowedOutput
from dms.application.network.chats import CHAT, CHAT_LINE, ChatLine, ChatOpen
from dms.application.network.control import Kind, serve_control
from dms.application.network.messages import (
    AD_SNAPSHOT,
    AD_TOPIC,
    CHECKPOINT,
    CONTROL,
    DEPLOYMENT_REQUEST,
    FEED,
    FILE_END,
    FILE_OFFER,
    CheckpointNote,
    DeploymentRequest,
    FeedItem,
    FeedRequest,
    FileEnd,
    FileOffer,
    HeadShown,
    SnapshotRequest,
    Terminate,
    encode,
)
from dms.application.ports.outputs import LogLine
from dms.application.ports.peers import GossipHandler, RequestHandler, StreamHandler
from dms.application.records.heads import HeadExchange
from dms.clock import machine_clock
from dms.domain.bounds import Unreadable, check, read, tightened, time_text
from dms.domain.deployment import Deployment
from dms.domain.device import Offer
from dms.domain.directory import Advertisement, SignedAdvertisement
from dms.domain.event import EVENT_TYPES, Event, Recorded, decode, new_id
from dms.domain.event import encode as encode_event
from dms.domain.heads import Heads
from dms.domain.job import FundStatus, Job
from dms.errors import ConfigError, DmsError, LogCorrupt
from projections.jobs import Jobs
from tests.fixtures.extremes import EXTREMES, mutants, read_from_peers, sample
from tests.fixtures.histories import Author, request
from tests.integration.http.node import ADDRESS, SERVICE_BODY, LonelyNetwork, Node, now_us, running_node
from tests.integration.p2p.waiting import wait_until

READ = read_from_peers()
EVENTS = [cls for topic, cls in EVENT_TYPES.items() if topic.startswith("deployment.")]
STRANGER = Identity.generate()


class Told(LonelyNetwork):
    """Keeps what the node serves, so that a test is its peer; answers with what the test says."""

    def __init__(self, peer_id: str) -> None:
        super().__init__(peer_id)
        self.requests: dict[str, RequestHandler] = {}
        self.streams: dict[str, StreamHandler] = {}
        self.gossip: dict[str, GossipHandler] = {}
        self.frames: Sequence[bytes] = ()

    def serve_request(self, protocol: str, handler: RequestHandler) -> None:
        self.requests[protocol] = handler

    def serve_stream(self, protocol: str, handler: StreamHandler, *, raw: bool = False) -> None:
        self.streams[protocol] = handler

    def serve_gossip(self, topic: str, handler: GossipHandler) -> None:
        self.gossip[topic] = handler

    async def stream(self, peer_id: str, protocol: str, body: bytes) -> AsyncGenerator[bytes, None]:
        for frame in self.frames:
            yield frame


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path, runs_for_peers=True, make_network=Told) as running:
        await running.services.device.onboard(
            Offer(
                cpu_mhz=4000, memory_mb=8000, channel="nunet-test", payment_address=ADDRESS, blockchain="Cardano",
                ntx_price=Decimal("0.01"), hostname="node",
            )
        )  # fmt: skip
        running.services.directory.serve()
        await running.services.directory.start()
        yield running
        await running.services.directory.close()


def network_of(node: Node) -> Told:
    network = node.services.network
    assert isinstance(network, Told)
    return network


async def still_works(node: Node) -> None:
    """All that a client asks for, and the loops behind it."""
    directory = node.services.directory
    await wait_until(directory._recorder._waiting.empty, 120)
    assert not node.services.loops.deaths
    async with node.client() as client:
        asked = await client.post("/api/v1/run/request-service", json=SERVICE_BODY)
        assert asked.status_code == 404, asked.text
        for path in ("/peers", "/peers/dht", "/peers/dht/dump", "/capacity", "/jobs", "/onboarding/metadata", "/livez"):
            for base in ("/api/v1", ""):
                answer = await client.get(base + path)
                assert answer.status_code in ((200,) if not base else (200, 404)), f"{path}: {answer.text}"
                if answer.status_code == 200:
                    break
    async with node.connect(v2=True) as socket, asyncio.timeout(120):
        assert "connected" in str(await socket.recv())


# --- where it is decoded -------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [*READ, *EVENTS], ids=lambda cls: cls.__qualname__)
def test_every_field_has_its_bounds(kind: type[Struct]) -> None:
    unbounded = list(_unbounded(msgspec.inspect.type_info(tightened(kind)), kind.__name__))
    assert not unbounded


def _unbounded(info: Any, at: str) -> list[str]:
    match info:
        case msgspec.inspect.StructType(fields=fields):
            return [place for field in fields for place in _unbounded(field.type, f"{at}.{field.name}")]
        case msgspec.inspect.UnionType(types=types):
            return [place for inner in types for place in _unbounded(inner, at)]
        case (
            msgspec.inspect.VarTupleType(item_type=item, max_length=most)
            | msgspec.inspect.ListType(item_type=item, max_length=most)
        ):
            return _unbounded(item, f"{at}[]") + ([at] if most is None else [])
        case msgspec.inspect.DictType(value_type=value, max_length=most):
            return _unbounded(value, f"{at}{{}}") + ([at] if most is None else [])
        case (
            msgspec.inspect.IntType(ge=ge, gt=gt, le=le, lt=lt) | msgspec.inspect.FloatType(ge=ge, gt=gt, le=le, lt=lt)
        ):
            low, high = (gt if ge is None else ge), (lt if le is None else le)
            return [at] if low is None or high is None or high > 2**63 else []
        case msgspec.inspect.StrType(max_length=most):
            return [at] if most is None or most > 262_144 else []
        case (
            msgspec.inspect.BoolType() | msgspec.inspect.NoneType() | msgspec.inspect.EnumType()
            | msgspec.inspect.LiteralType() | msgspec.inspect.RawType() | msgspec.inspect.CustomType()
        ):  # fmt: skip
            return []
    return [f"{at}: {info}"]


@pytest.mark.parametrize("kind", READ, ids=lambda cls: cls.__name__)
def test_an_extreme_is_refused_or_in_bounds(kind: type[Struct]) -> None:
    whole = sample(kind)
    assert isinstance(read(msgspec.json.encode(whole), kind), kind)
    for _, body in mutants(whole):
        try:
            found = read(body, kind)
        except Unreadable:
            continue
        again = msgspec.json.encode(found)  # as it is stored and shown: no lone surrogates, no NaN
        if kind not in (Answer, Kind):  # what is raw in these is read in its turn
            assert again.decode()


def test_the_messages_were_found() -> None:
    names = {kind.__name__ for kind in READ}
    assert {"Advertisement", "SignedAdvertisement", "DeploymentRequest", "FeedItem", "ChatLine", "HeadShown"} <= names
    assert {"FetchRequest", "FileOfferAnswer", "CheckpointNote", "Snapshot", "Answer", "Kind"} <= names
    assert len(EVENTS) >= 19


# --- what peers ask of us ------------------------------------------------------------------------------
REQUESTS: tuple[tuple[str, type[Struct]], ...] = (
    (DEPLOYMENT_REQUEST, DeploymentRequest),
    (CONTROL, Terminate),
    (CONTROL, HeadShown),
    (CHECKPOINT, CheckpointNote),
    (AD_SNAPSHOT, SnapshotRequest),
    (FILE_OFFER, FileOffer),
    (FILE_END, FileEnd),
    (CHAT_LINE, ChatLine),
)
STREAMS: tuple[tuple[str, type[Struct]], ...] = ((FEED, FeedRequest), (FILE, FetchRequest), (CHAT, ChatOpen))


class NoHeads:
    def load(self) -> Heads:
        return Heads(peer_id=STRANGER.peer_id)

    async def save(self, heads: Heads) -> None: ...


def serve_all(node: Node) -> Told:
    network, services = network_of(node), node.services
    services.compute_provider.serve(network)
    services.transfers.serve()
    services.chats.serve()
    heads = HeadExchange(services.log, network, Identity.generate(), NoHeads(), now_us)
    FileExchange(network).start()
    serve_control(network, services.compute_provider.on_terminate, heads.on_head)
    return network


async def test_requests_and_streams_of_peers(node: Node) -> None:
    network = serve_all(node)
    answered = refused = 0
    for protocol, kind in REQUESTS:
        for what, body in _with_own_ids(kind):
            try:
                await network.requests[protocol](STRANGER.peer_id, body)
                answered += 1
            except DmsError:
                refused += 1
            except Exception as error:
                raise AssertionError(f"{protocol} {kind.__name__} {what}") from error
    for protocol, kind in STREAMS:
        for what, body in _with_own_ids(kind):
            frames = network.streams[protocol](STRANGER.peer_id, body)
            try:
                async with asyncio.timeout(120):
                    await anext(frames)
                answered += 1
            except (DmsError, StopAsyncIteration):
                refused += 1
            except Exception as error:
                raise AssertionError(f"{protocol} {what}") from error
            finally:
                await frames.aclose()
    assert answered > 50
    assert refused > 1000
    await still_works(node)


def _with_own_ids(kind: type[Struct]) -> list[tuple[str, bytes]]:
    """Each about a job or transfer of its own, so that none is taken for a repeat."""
    found = []
    for what, body in mutants(sample(kind)):
        anew = body
        for name in ("job_id", "transfer_id"):
            marker = f'"{name}":"'.encode()
            at = body.find(marker)
            if at >= 0 and body[at + len(marker) + 36 : at + len(marker) + 37] == b'"':
                start = at + len(marker)
                anew = anew[:start] + new_id().encode() + anew[start + 36 :]
        found.append((what, anew))
    return found


# --- what providers say of themselves --------------------------------------------------------------------
def advertised(channel: str = "nunet-test", identity: Identity | None = None) -> tuple[Identity, dict[str, Any]]:
    author = identity or Identity.generate()
    whole = sample(Advertisement)
    whole |= {"peer_id": author.peer_id, "sequence": now_us(), "expires_at": now_us() + 150_000_000}
    whole["addresses"] = ["/ip4/127.0.0.1/tcp/9"]
    whole["offering"] |= {"channel": channel, "ntx_price": "1", "blockchain": "", "reserved": {}}
    for name in ("total", "offered"):
        whole["offering"][name] = {"cpu_mhz": 100_000, "memory_mb": 100_000, "vram_mb": 1000}
    return author, whole


def signed(author: Identity, body: bytes) -> bytes:
    text = body.decode(errors="surrogateescape")
    try:
        return encode(SignedAdvertisement(body=text, signature=author.sign(body).hex()))
    except UnicodeEncodeError:
        return body


@pytest.mark.slow
async def test_advertisements_on_any_channel(node: Node) -> None:
    hear = network_of(node).gossip[AD_TOPIC + "nunet-test"]
    for channel in ("nunet-test", "nunet-edge"):
        _, whole = advertised(channel)
        for what, body in mutants(whole):
            author = Identity.generate()
            own = body.replace(whole["peer_id"].encode(), author.peer_id.encode())
            try:
                hear(author.peer_id, signed(author, own))
            except Exception as error:
                raise AssertionError(what) from error
    known = node.services.directory.offers
    assert len(known) > 100
    await still_works(node)


@pytest.mark.parametrize("price", ["1e30", "NaN", "Infinity", "-1", "1e-99999", "1000001", "x", "", "1e999999999999"])
async def test_a_price_that_is_no_amount_stops_nobody(node: Node, price: str) -> None:
    author, whole = advertised("nunet-edge")
    whole["offering"]["ntx_price"] = price
    network_of(node).gossip[AD_TOPIC + "nunet-test"](author.peer_id, signed(author, msgspec.json.encode(whole)))
    assert node.services.directory.offers.get(author.peer_id) is None
    await still_works(node)


async def test_snapshots_of_a_neighbour(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    author, whole = advertised()
    page = {"advertisements": [msgspec.json.decode(signed(author, msgspec.json.encode(whole)))], "more": True}
    for what, body in mutants(page):

        async def answer(*_: object, answered: bytes = body) -> bytes:
            return answered

        monkeypatch.setattr(node.services.network, "request", answer)
        async with asyncio.timeout(120):
            try:
                await node.services.directory._snapshots.fetch(STRANGER.peer_id, own=False)
            except Exception as error:
                raise AssertionError(what) from error
    monkeypatch.undo()
    await still_works(node)


# --- what a provider says of a job -------------------------------------------------------------------------
async def submitted(node: Node, provider: str) -> Job:
    job = Job(new_id())
    job.request_service(request(), provider, "0.1", now_us() + 60_000_000, (), 0)
    job.report_fund_status(FundStatus(transaction_type="fund", transaction_status="success", tx_hash=new_id()))
    job.accept_funding("trust")
    await node.log.save(job)
    return job


@pytest.mark.slow
async def test_feeds_of_a_provider(node: Node) -> None:
    """Each in a job of its own, whose lines are then shown as clients get them."""
    network = network_of(node)
    [follow] = [one for one in node.services.service_provider.reactors if isinstance(one, FollowDeployments)]
    author = Author()
    whole = sample(FeedItem)
    taken: list[str] = []
    job: Job | None = None
    async with node.connect(v2=True) as socket:
        await asyncio.wait_for(socket.recv(), 120)
        for what, body in mutants(whole):
            try:
                read(body, FeedItem)
                readable = True
            except Unreadable:
                readable = False
            if job is None or readable:
                job = await submitted(node, author.peer_id)
            network.frames = (body,)
            try:
                await follow._take_feed(job.attempt, Contact(machine_clock), FollowedOutput(node.outputs, job.key))
                taken.append(job.key)
            except DmsError:
                taken.append(job.key)
            except Exception as error:
                raise AssertionError(what) from error
    for job_id in dict.fromkeys(taken):
        lines = await node.outputs.read(job_id, 0, 1000)
        for version in (1, 2):
            list(line_frames(job_id, lines, Flavour(version, False, "http://x")))
    await still_works(node)


@pytest.mark.parametrize("time_ns", [-(10**30), -1, 0, 10**18, 2**63 - 1, 2**63, 10**30, 10**4000])
def test_a_line_that_was_stored_with_any_time_is_shown(time_ns: int) -> None:
    assert time_text(time_ns).endswith("+00:00")
    (frame,) = line_frames("job", [LogLine(1, "stdout", time_ns, "text")], Flavour(2, False, "http://x"))
    assert b"text" in frame


@pytest.mark.parametrize("cls", EVENTS, ids=lambda cls: cls.__name__)
def test_events_of_a_provider(cls: type[Event]) -> None:
    """What passes the bounds goes through the job that follows it, and into its view and its actions."""
    author, at = Author(), 0
    whole = sample(cls)
    passed = 0
    for what, body in mutants(whole):
        try:
            event = decode(cls.TOPIC, cls.VERSION, body)
            check(event)
        except (LogCorrupt, Unreadable):
            continue
        passed += 1
        job = Job(new_id())
        job.request_service(request(), author.peer_id, "0.1", now_us() + 60_000_000, (), 0)
        job.report_fund_status(FundStatus(transaction_type="fund", transaction_status="success", tx_hash="ab"))
        job.accept_funding("trust")
        try:
            data = encode_event(event).decode()
            job.report_from_provider(author.record(job.key, event, data=data), event)
            if isinstance(event, Deployment.CheckpointSaved):
                job.offer_checkpoint(event, 1, 2**30)
        except DmsError:
            pass
        except Exception as error:
            raise AssertionError(f"{cls.__name__} {what}") from error
        row: Any = None
        view = Jobs()
        for number, (_, made) in enumerate(job.pending, 1):
            at += 1
            recorded = Recorded(
                at, job.id, number, made.TOPIC, made.VERSION, at, b"", b"", b"", "", encode_event(made), b"", made
            )
            if view.key(recorded) is not None:
                row = view.apply(row, recorded)
            action_frame(recorded, Flavour(2, False, "http://x"), "/log")
        assert msgspec.json.encode(row)
        for column in view.column_values(row):
            assert not isinstance(column, int) or abs(column) < 2**63
    assert passed


# --- what stands in no message -------------------------------------------------------------------------------
def texts() -> list[str]:
    found = []
    for body in EXTREMES:
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, ValueError, RecursionError):
            continue
        if isinstance(value, str):
            found.append(value)
    return found


def test_addresses_and_ids_of_identify_and_mdns() -> None:
    book, known = AddressBook(), Identity.generate().peer_id
    discovery = Discovery(Identity.generate().peer_id, [], book)
    for text in texts():
        book.add(known, [text, f"/ip4/{text}/tcp/1", f"/dns4/{text}/tcp/1", f"/ip4/1.2.3.4/tcp/{text}"])
        book.add(text, ["/ip4/127.0.0.1/tcp/1"])
        discovery.nearby(text)
        discovery.moved(text)
    book.add(known, ["/ip4/127.0.0.1/tcp/1"] * 100_000)
    assert len(book.of(known)) <= 16
    assert all(address.isprintable() and len(address) <= 256 for address in book.of(known))
    assert book.peers() == [known]
    discovery.nearby(known)
    assert discovery._due(time.monotonic() + 10) == [known]


def test_bootstrap_addresses_are_read_or_refused_in_words() -> None:
    for text in texts():
        for address in (
            text,
            f"/dnsaddr/{text}",
            f"/ip4/{text}/tcp/1/p2p/{STRANGER.peer_id}",
            f"/dnsaddr/a/p2p/{text}",
        ):
            with contextlib.suppress(ConfigError):
                read_bootstrap(address)
