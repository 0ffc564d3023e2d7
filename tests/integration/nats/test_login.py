"""The ways to log in, each with a real server: TLS with a certificate of our own authority, nkeys, tokens."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nkeys
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.nats import relay as relay_module
from dms.adapters.nats.relay import NatsRelay
from dms.config import Nats
from tests.fixtures.histories import new_job
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import wait_for

PEER = "12D3KooWLogin"


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SQLiteEventLog]:
    made = SQLiteEventLog(tmp_path / "events.db")
    await made.start()
    await made.save(new_job())
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "RETRY_SECONDS", (0.02, 0.2))


async def outcome(log: SQLiteEventLog, tmp_path: Path, settings: Nats) -> tuple[int, str]:
    """(position confirmed, error) once there is either."""
    relay = NatsRelay(log, PEER, settings, tmp_path / "state.json")
    await relay.start()
    try:
        await wait_for(lambda: relay.status.error or relay.status.position == log.head)
        return relay.status.position, relay.status.error
    finally:
        await relay.close()
        (tmp_path / "state.json").unlink(missing_ok=True)


class Authority:
    """Writes ca.pem, and for each name NAME.pem and NAME.key."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self._write("ca", self._sign(self._name, self._key.public_key(), None), self._key)

    def issue(self, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._write(name, self._sign(subject, key.public_key(), "127.0.0.1"), key)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, address: str | None) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=address is None, path_length=None), critical=True)
            # Python 3.13 and later ask for what RFC 5280 wants to be there.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if address is None:
            signs = dict.fromkeys(("key_cert_sign", "crl_sign", "digital_signature"), True)
            others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
            never = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
            builder = builder.add_extension(x509.KeyUsage(**signs, **never), critical=True)
        if address is not None:
            names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(address))]
            uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (self.folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


async def test_tls_with_client_certificates(log: SQLiteEventLog, tmp_path: Path) -> None:
    ours, another = Authority(tmp_path / "ours"), Authority(tmp_path / "another")
    for name in ("server", "client"):
        ours.issue(name)
    server = NatsServer(
        tmp_path / "nats",
        f'tls {{ cert_file: "{ours.path("server.pem")}", key_file: "{ours.path("server.key")}", '
        f'ca_file: "{ours.path("ca.pem")}", verify: true }}',
    )
    server.start()
    url = server.url.replace("nats://", "tls://")
    certificate: dict[str, Any] = {"tls_cert": ours.path("client.pem"), "tls_key": ours.path("client.key")}
    try:
        position, error = await outcome(log, tmp_path, Nats(url=url, tls_ca=another.path("ca.pem"), **certificate))
        assert position == 0
        assert "certificate" in error.casefold()
        position, error = await outcome(log, tmp_path, Nats(url=url, tls_ca=ours.path("ca.pem")))
        assert (position, bool(error)) == (0, True)
        settings = Nats(url=url, tls_ca=ours.path("ca.pem"), **certificate)
        assert await outcome(log, tmp_path, settings) == (log.head, "")
    finally:
        server.kill9()


async def test_nkeys(log: SQLiteEventLog, tmp_path: Path) -> None:
    seed = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER)
    stranger = nkeys.encode_seed(bytes(range(1, 33)), nkeys.PREFIX_BYTE_USER)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    server = NatsServer(tmp_path / "nats", f"authorization {{ users: [{{ nkey: {public} }}] }}")
    server.start()
    try:
        (tmp_path / "seed").write_bytes(bytes(stranger) + b"\n")
        position, error = await outcome(log, tmp_path, Nats(url=server.url, nkey_file=str(tmp_path / "seed")))
        assert position == 0
        assert "uthorization" in error
        assert bytes(stranger).decode() not in error
        (tmp_path / "seed").write_bytes(bytes(seed) + b"\n")
        settings = Nats(url=server.url, nkey_file=str(tmp_path / "seed"))
        assert await outcome(log, tmp_path, settings) == (log.head, "")
    finally:
        server.kill9()


async def test_a_token(log: SQLiteEventLog, tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", 'authorization { token: "of-the-door" }')
    server.start()
    try:
        position, error = await outcome(log, tmp_path, Nats(url=server.url, token="not-it"))
        assert position == 0
        assert "not-it" not in error
        assert await outcome(log, tmp_path, Nats(url=server.url, token="of-the-door")) == (log.head, "")
    finally:
        server.kill9()
