"""Files that are given to the program, or that lie beside its log: exports, configuration, keys, policies, the log's
own archive, what NATS and a chain's node answer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Literal

import httpx
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from nats.aio.msg import Msg

from dms import config
from dms.adapters.eventlog import segments, sqlite_scan
from dms.adapters.eventlog.archive_reader import Archived
from dms.adapters.eventlog.keyring import Keyring, KeyRow
from dms.adapters.eventlog.segments import Block
from dms.adapters.executors.engine import engine_address
from dms.adapters.funding import ledger
from dms.adapters.funding.rpc import EthereumRpc, node_address
from dms.adapters.heads.file import read_heads
from dms.adapters.http.tls import Certificate
from dms.adapters.nats import connection, place, publisher, reader, relay, stream
from dms.adapters.outputs.sealed import parsed
from dms.adapters.p2p.identity import Identity, _text
from dms.application.loops import Loops
from dms.cli.export_file import export_lines
from dms.config import Nats
from dms.domain.audit import check_evidence, compare, recorded
from dms.domain.chain import GENESIS, SignedRecord, record_hash
from dms.domain.event import EVENT_TYPES
from dms.domain.export import Checker, Header, Writer
from dms.domain.policy import read_policy
from dms.errors import ArchiveUnreadable, ConfigError, Conflict, InvalidInput, LogCorrupt, PeerMisbehaved, Unavailable
from dms.passphrase import Passphrase
from tests.fixtures.extremes import sample
from tests.fuzz.made import gzipped
from tests.fuzz.target import Target, scratch, written
from tests.fuzz.targets.peers import PEER, driven

JOB = "01890a5d-ac96-774b-bcce-b302099a8057"


# --- exports ------------------------------------------------------------------------------------------
def export(data: bytes) -> None:
    checker = Checker(lambda *_: True)
    records = list(checker.records(export_lines(written(data))))
    check_evidence(records, lambda *_: True)


def honest_export(data: bytes) -> None:
    """Of a signer who says what it likes in records whose hashes and versions are right. One event a line:
    topic, schema version, and the body."""
    topics = sorted(EVENT_TYPES)
    versions: dict[str, int] = {}
    records = []
    for position, line in enumerate(data.split(b"\n"), 1):
        topic = topics[line[0] % len(topics)] if line else topics[0]
        name = f"{topic.partition('.')[0]}-{JOB}"
        versions[name] = versions.get(name, 0) + 1
        draft = SignedRecord(
            position=position,
            stream=name,
            version=versions[name],
            topic=topic,
            schema_version=line[1] % 5 if len(line) > 1 else 1,
            time=position,
            event_id=JOB,
            correlation_id="",
            causation_id="",
            traceparent="",
            data=line[2:].decode("latin-1"),
            previous="00" * 32,
            hash="",
            signature="00" * 64,
        )
        records.append(msgspec.structs.replace(draft, hash=record_hash(draft, "here").hex()))
    writer = Writer(Header(kind="job", peer_id=PEER, job_id=JOB), lambda _: b"\0" * 64)
    lines = [writer.begin(), *map(writer.record, records), writer.end(len(records), "00" * 32)]
    checked = list(Checker(lambda *_: True).records(lines))
    assert checked == records
    for record in checked:
        recorded(record)
    check_evidence(checked, lambda *_: True)
    compare(JOB, (PEER, checked), (PEER, checked))


# --- configuration, keys ------------------------------------------------------------------------------
def configuration(data: bytes) -> None:
    loaded = config.load({}, {}, written(data), cwd=scratch(), home=scratch(), root=False)
    nats_settings(loaded.settings.nats)
    if loaded.settings.funding.rpc_url:
        node_address(loaded.settings.funding.rpc_url)


def nats_settings(found: Nats) -> None:
    if found.url:
        connection.check(
            msgspec.structs.replace(found, tls_ca="", tls_cert="", tls_key="", creds_file="", nkey_file="")
        )


def environment(data: bytes) -> None:
    """NAME=VALUE lines."""
    lines = data.decode("utf-8", "surrogateescape").replace("\0", "").split("\n")
    given = dict(line.partition("=")[::2] for line in lines)
    loaded = config.load({}, given, None, cwd=scratch(), home=scratch(), system=scratch() / "none", root=False)
    nats_settings(loaded.settings.nats)


def certificate(data: bytes) -> None:
    Certificate(written(data), written(data, "key"), Loops())


def key(data: bytes) -> None:
    """The passphrase is not that of an encrypted one: what is in it is a secret of its owner's."""
    Identity.load(written(data), passphrase=Passphrase(written(b"another passphrase", "passphrase")))


def policy(data: bytes) -> None:
    rule = read_policy(data).rule()
    assert rule is not None


def engine_url(data: bytes) -> None:
    engine_address(data.decode("utf-8", "replace"))


# --- beside the log -----------------------------------------------------------------------------------
def beside(data: bytes) -> None:
    path = written(data)
    place.load(path), parsed(data), segments.end_of(path)
    read_heads(path)


def block(data: bytes) -> None:
    """Of the log's archive."""
    path = written(data)
    one = Block(first=1, last=2, file=path.name, offset=0, length=len(data), oldest=0)
    lines = segments.read_block(path.parent, one)
    archived = Archived(None, path.parent)  # type: ignore[arg-type]  # it is asked for nothing
    for position, line in enumerate(lines, 1):
        archived._decoded(one, line, position)


def scanned(data: bytes) -> None:
    sqlite_scan._decoded(data.split(b"\n"), 1 << 62)


class _Rows:
    """One key of one scope."""

    def of_scope(self, scope: str) -> KeyRow | None:
        return None

    def secret(self, key_id: bytes) -> bytes | None:
        return b"k" * 32

    def is_known(self, key_id: bytes) -> bool:
        return True

    def close(self) -> None: ...


def sealed(data: bytes) -> None:
    Keyring(_Rows()).open(data.decode("utf-8", "replace"), "job.submitted")


# --- NATS and the chain ---------------------------------------------------------------------------------
_LOOP = asyncio.new_event_loop()


def nats_message(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    assert len(stream.token(text)) <= stream.TOKEN_CHARACTERS
    relay._sent(data)
    reader.event_of(data)


def nats_answer(data: bytes) -> None:
    async def told() -> None:
        one: Any = publisher.Publisher.__new__(publisher.Publisher)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        one._waiting = {"1": answer}
        await one._on_answer(Msg(_client=None, subject="inbox.1", data=data))  # type: ignore[arg-type]
        assert answer.done()
        answer.exception()

    _LOOP.run_until_complete(told())


def chain(data: bytes) -> None:
    """A node's answer to each question."""

    class Answer:
        status_code = 200

        async def aiter_bytes(self) -> Any:
            yield data

        async def __aenter__(self) -> Answer:
            return self

        async def __aexit__(self, *_: object) -> None: ...

    class Http:
        def stream(self, *_: object, **__: object) -> Answer:
            return Answer()

    rpc: Any = EthereumRpc.__new__(EthereumRpc)
    rpc._url, rpc._http = httpx.URL("http://a"), Http()
    result = driven(rpc._once("eth_x", {"id": 1}))
    if isinstance(result, dict):
        ledger._read(ledger._Receipt if "logs" in result else ledger._Transaction, result)
    else:
        ledger._number(result)


_CONFIG = b"""// settings
{"rest": {"port": 9999, "addr": "0.0.0.0"}, /* x */ "p2p": {"listen_address": ["/ip4/0.0.0.0/tcp/1"]},
 "nats": {"url": "nats://a:4222"}, "job": {"log_update_interval": "10s"},
 "funding": {"rpc_url": "http://a:8545/key"}}"""
_POLICY = b'{"rates":{"low":"0.1"},"provider_price_factor":"2"}'


def _export(kind: Literal["log", "job"]) -> bytes:
    """Two events of a log, or none of a job."""
    header = Header(kind=kind, peer_id=PEER, job_id=JOB if kind == "job" else "")
    writer = Writer(header, lambda _: bytes(64))
    lines, link = [writer.begin()], GENESIS
    for position in (1, 2) if kind == "log" else ():
        draft = SignedRecord(
            position=position, stream=f"job-{JOB}", version=position, topic="job.submitted", schema_version=1, time=1,
            event_id=JOB, correlation_id=JOB, causation_id="", traceparent="", data="{}", previous=link.hex(), hash="",
            signature="00" * 64,
        )  # fmt: skip
        link = record_hash(draft, "here", link)
        lines.append(writer.record(msgspec.structs.replace(draft, hash=link.hex())))
    return b"".join([*lines, writer.end(len(lines) - 1, link.hex())])


def _pem_of_key() -> bytes:
    return _KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _certificate() -> bytes:
    """With its key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    day = datetime(2026, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(_KEY.public_key()).serial_number(1)
        .not_valid_before(day).not_valid_after(day.replace(year=2046)).sign(_KEY, None)
    )  # fmt: skip
    return made.public_bytes(Encoding.PEM) + _pem_of_key()


_KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
_ENCRYPTED = b"""Peer: 12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBA=
-----END ENCRYPTED PRIVATE KEY-----
"""
_EXPORT = _export("log")
_KEPT = msgspec.json.encode({"peer_id": PEER, "format": 1})


def _histories() -> tuple[bytes, ...]:
    topics = sorted(EVENT_TYPES)
    seeds = []
    for kind in ("job", "deployment"):
        lines = [
            bytes([number, EVENT_TYPES[topic].VERSION]) + msgspec.json.encode(sample(EVENT_TYPES[topic]))
            for number, topic in enumerate(topics)
            if topic.startswith(f"{kind}.") and number != 10
        ]
        seeds += [b"\n".join(lines), *lines[:4]]
    return tuple(seeds)


TARGETS = (
    Target("exports", export, (LogCorrupt,), (_EXPORT, gzipped(_EXPORT), _export("job"))),
    Target("honest-exports", honest_export, (LogCorrupt, InvalidInput, PeerMisbehaved), _histories()),
    Target("configurations", configuration, (ConfigError,), (_CONFIG,)),
    Target(
        "environments",
        environment,
        (ConfigError,),
        (
            b'DMS_REST_PORT=9999\nDMS_NATS_URL=nats://a:1\nDMS_P2P_LISTEN_ADDRESS=["/ip4/0.0.0.0/tcp/1"]',
            b"DMS_JOB_LOG_UPDATE_INTERVAL=5m",
        ),
    ),
    Target("certificates", certificate, (ConfigError,), (_certificate(), _pem_of_key())),
    Target("node-keys", key, (ConfigError,), (_text(_KEY), _pem_of_key(), _ENCRYPTED, _certificate())),
    Target("policies", policy, (InvalidInput,), (_POLICY, b'{"watt_price":"1e-5","excluded_providers":["a"]}')),
    Target("engine-urls", engine_url, (ConfigError,), (b"unix:///var/run/docker.sock", b"tcp://h:2375", b"tcp://h:x")),
    Target(
        "beside-the-log",
        beside,
        (InvalidInput,),
        (_KEPT, b'{"stream":"s","position":1,"hash":"h"}', gzipped(_EXPORT), b'[1,"stdout",1,"a"]\n'),
    ),
    Target(
        "archive-blocks",
        block,
        (ArchiveUnreadable,),
        (
            gzipped(
                msgspec.json.encode(sample(SignedRecord))
                + b"\n"
                + msgspec.json.encode(sample(SignedRecord) | {"position": 2})
                + b"\n"
            ),
        ),
    ),
    Target("scanned-blocks", scanned, (ValueError, LookupError, TypeError), (b'{"position":1,"data":"{}"}',)),
    Target("sealed-tokens", sealed, (), (b"00ff." + b"QUFB" * 12,)),
    Target(
        "nats-messages",
        nats_message,
        (Conflict, Unavailable),
        (
            b'{"position":1,"hash":"x"}',
            b'{"specversion":"1.0","id":"01990000-0000-7000-8000-000000000001","source":"urn:nunet:dms:peer:12D3KooWA",'
            b'"type":"io.nunet.dms.job.failed.v2","subject":"job-1","time":"2026-01-31T12:00:00.000000Z",'
            b'"datacontenttype":"application/json","dataschema":"urn:nunet:dms:event:job.failed:v2","position":7,'
            b'"streamversion":2,"hash":"' + b"ab" * 32 + b'","data":{}}',
        ),
    ),
    Target(
        "nats-answers", nats_answer, (), (b'{"seq":1,"stream":"DMS"}', b'{"error":{"err_code":1,"description":"x"}}')
    ),
    Target(
        "chain-answers",
        chain,
        (Unavailable,),
        (
            b'{"id":1,"result":null}',
            b'{"id":1,"result":{"blockNumber":"0x1","logs":[]}}',
            b'{"id":1,"result":"0x10"}',
            b'{"id":1,"error":{"code":-1}}',
        ),
    ),
)
