"""https by the server itself: the whole API over it, and certificates that are renewed while it runs."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import httpx
import pytest
import websockets
from click.testing import CliRunner
from cryptography import x509

from dms.adapters.http import server
from dms.adapters.http.tls import Certificate
from dms.application.loops import Loops
from dms.cli.main import cli
from dms.config import Rest
from tests.fixtures.tls_proxy import own_certificate
from tests.integration.http.node import ADDRESS, running_node

NAME = "localhost"


async def test_the_api_its_websockets_and_its_own_pages_work_over_tls(tmp_path: Path) -> None:
    pem = own_certificate(tmp_path / "dms.pem", NAME)
    trust = ssl.create_default_context(cafile=str(pem))
    async with running_node(tmp_path / "node", Rest(tls_cert=str(pem), tls_key=str(pem))) as node:
        url, own = f"https://{NAME}:{node.port}", {"origin": f"https://{NAME}:{node.port}"}
        async with httpx.AsyncClient(verify=trust, timeout=120, headers=own) as client:
            body = {"memory": 8000, "cpu": 4000, "channel": "nunet-test", "payment_addr": ADDRESS}
            assert (await client.post(f"{url}/api/v1/onboarding/onboard", json=body)).status_code == 200
            job_id = await node.job()
            shown = (await client.get(f"{url}/api/v1/jobs/{job_id}")).json()
            assert shown["log_url"].startswith(f"{url}/api/v1/jobs/")
            token = str((await client.post(f"{url}/api/v1/tokens", json={"name": "a", "role": "read"})).json()["token"])
            login = await client.post(f"{url}/api/v1/session", json={"token": token})
            assert "Secure" in login.headers["set-cookie"]
            assert login.headers["set-cookie"].startswith("__Host-"), "nobody else's page can have set it"
            assert (await client.get(f"{url}/api/v1/session")).json()["by"] == "session"
            logout = await client.delete(f"{url}/api/v1/session")
            assert logout.headers["set-cookie"].startswith("__Host-")
            assert (await client.get(f"{url}/api/v1/session")).json()["by"] == "user"
            plain = await client.get(f"{url}/livez", headers={"origin": f"http://{NAME}:{node.port}"})
            assert plain.status_code == 403, "a page that came in the clear may be anybody's"
        async with websockets.connect(f"wss://{NAME}:{node.port}/api/v1/run/deploy", ssl=trust) as socket:
            assert "connected" in str(await socket.recv())
            await socket.send(b"\xff" * 70_000)  # more than a message may have: the close still comes
            await asyncio.wait_for(socket.wait_closed(), 120)
            assert socket.close_code == 1009
        with pytest.raises(httpx.TransportError):
            async with httpx.AsyncClient(timeout=120) as client:
                await client.get(f"http://{NAME}:{node.port}/livez")


async def test_the_command_trusts_the_certificate_that_is_configured(tmp_path: Path) -> None:
    pem = own_certificate(tmp_path / "dms.pem", NAME)
    async with running_node(tmp_path / "node", Rest(tls_cert=str(pem), tls_key=str(pem))) as node:
        env = {
            "DMS_REST_ADDR": NAME, "DMS_REST_PORT": str(node.port), "DMS_REST_TLS_CERT": str(pem),
            "DMS_REST_TLS_KEY": str(pem), "DMS_URL": "", "DMS_TOKEN": "",
        }  # fmt: skip
        listed = await asyncio.to_thread(CliRunner().invoke, cli, ["peer", "list"], env=env)
        assert "tls" not in listed.output.casefold(), listed.output
        assert listed.exit_code in (0, 1), listed.output


async def test_a_command_on_the_machine_itself_trusts_the_configured_certificate_whatever_its_name_and_no_other(
    tmp_path: Path,
) -> None:
    pem, other = (own_certificate(tmp_path / f"{name}.pem", "dms.example.org") for name in ("dms", "other"))
    chain = tmp_path / "chain.pem"
    chain.write_text(other.read_text() + pem.read_text())  # what follows the first is whose who signed it
    async with running_node(tmp_path / "node", Rest(tls_cert=str(pem), tls_key=str(pem))) as node:
        for configured, is_trusted in ((pem, True), (other, False), (chain, False)):
            env = {
                "DMS_REST_ADDR": "0.0.0.0", "DMS_REST_PORT": str(node.port), "DMS_REST_TLS_CERT": str(configured),
                "DMS_REST_TLS_KEY": str(pem), "DMS_URL": "", "DMS_TOKEN": "",
            }  # fmt: skip
            listed = await asyncio.to_thread(CliRunner().invoke, cli, ["job", "list"], env=env)
            assert (listed.exit_code == 0) is is_trusted, listed.output
            assert ("is not trusted" in listed.output) is not is_trusted


def serial(context: ssl.SSLContext, pem: Path) -> int:
    """Of the certificate that a client is shown, over a connection in memory."""
    trust = ssl.create_default_context(cafile=str(pem))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(to_client, to_server, server_hostname=NAME)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    done = False
    while not done:
        done = True
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                done = False
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


async def test_a_renewed_certificate_is_taken_up_and_a_broken_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pem, newer = own_certificate(tmp_path / "dms.pem", NAME), own_certificate(tmp_path / "newer.pem", NAME)
    certificate = Certificate(pem, pem, Loops())
    first = serial(certificate.context, pem)
    await certificate.look()
    assert serial(certificate.context, pem) == first
    pem.write_bytes(newer.read_bytes())
    await certificate.look()
    second = serial(certificate.context, newer)
    assert second != first
    pem.write_text("half a certificate")
    await certificate.look()
    assert serial(certificate.context, newer) == second
    assert "the one before stays in use" in caplog.text


async def test_who_never_agrees_on_tls_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sooner than the library would do it."""
    assert server.ARRIVE_SECONDS <= 10
    monkeypatch.setattr(server, "ARRIVE_SECONDS", 1)
    pem = own_certificate(tmp_path / "dms.pem", NAME)
    async with running_node(tmp_path / "node", Rest(tls_cert=str(pem), tls_key=str(pem))) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        async with asyncio.timeout(50):
            assert await reader.read() == b""
        writer.close()
