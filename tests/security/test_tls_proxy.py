"""A DMS behind a proxy that speaks TLS: its own pages work there, and nobody gains by saying to be behind one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from dms.config import Rest
from dms.domain.api_token import Role
from tests.fixtures.browser import chromium, watched
from tests.fixtures.plain_http import NO_TLS
from tests.fixtures.tls_proxy import TlsProxy, tls_proxy
from tests.integration.http.node import ADDRESS, Node, running_node

NAME = "dms.example"
PUBLIC = f"https://{NAME}"
ONBOARD = {"memory": 8000, "cpu": 4000, "channel": "nunet-test", "payment_addr": ADDRESS}


TOKENS: list[str] = []


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path, Rest(public_url=PUBLIC)) as running:
        TOKENS[:] = [str(await running.services.tokens.create("ops", Role.ADMIN))]
        yield running
        TOKENS.clear()


def authorization() -> dict[str, str]:
    """Of the administrator of `node`: behind a proxy nobody is let in for who they are on this machine."""
    return {"authorization": f"Bearer {TOKENS[0]}"} if TOKENS else {}


async def ask(proxy: TlsProxy, method: str, path: str, origin: str = "", body: Any = None) -> httpx.Response:
    """As a client that found the proxy under its name."""
    headers = {"host": NAME, **authorization(), **({"origin": origin} if origin else {})}
    async with httpx.AsyncClient(verify=proxy.trust, timeout=120) as client:
        return await client.request(
            method, f"https://127.0.0.1:{proxy.port}{path}", headers=headers, json=body,
            extensions={"sni_hostname": NAME},
        )  # fmt: skip


def connect(proxy: TlsProxy, origin: str) -> Any:
    return websockets.connect(
        f"wss://{NAME}/api/v1/run/deploy", host="127.0.0.1", port=proxy.port, ssl=proxy.trust,
        additional_headers={"Origin": origin, **authorization()},
    )  # fmt: skip


@pytest.mark.parametrize("host", ["", "127.0.0.1:9999"], ids=["host kept", "host of the proxy's own"])
async def test_own_pages_post_and_open_websockets_through_the_proxy(tmp_path: Path, node: Node, host: str) -> None:
    async with tls_proxy(tmp_path, NAME, node.port, host=host) as proxy:
        answer = await ask(proxy, "POST", "/api/v1/onboarding/onboard", PUBLIC, ONBOARD)
        assert answer.status_code == 200, answer.text
        async with connect(proxy, PUBLIC) as socket:
            assert "connected" in str(await socket.recv())
        job_id = await node.job()
        shown = (await ask(proxy, "GET", f"/api/v1/jobs/{job_id}", PUBLIC)).json()
        assert shown["log_url"].startswith(f"{PUBLIC}/api/v1/jobs/{job_id}/logs?token=")
        fetched = await ask(proxy, "GET", shown["log_url"].removeprefix(PUBLIC))
        assert fetched.status_code == 200, "the link leads through the proxy"
        collection = (await ask(proxy, "GET", "/postman.json", PUBLIC)).text
        assert PUBLIC in collection
        assert f"http://{NAME}" not in collection


@pytest.mark.parametrize(
    "origin",
    [f"http://{NAME}", f"{PUBLIC}:8443", f"{PUBLIC}.evil.example", "https://evil.example", "null", f"{PUBLIC}/"],
)
async def test_other_pages_are_refused_through_the_proxy(tmp_path: Path, node: Node, origin: str) -> None:
    async with tls_proxy(tmp_path, NAME, node.port) as proxy:
        before = node.log.head
        assert (await ask(proxy, "POST", "/api/v1/onboarding/onboard", origin, ONBOARD)).status_code == 403
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(proxy, origin)
        assert refused.value.response.status_code == 403
        assert node.log.head == before


FORGED = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\nForwarded: host=evil.example;proto=https\r\n"


async def test_what_a_request_says_of_a_proxy_is_not_believed(tmp_path: Path, node: Node) -> None:
    async with tls_proxy(tmp_path, NAME, node.port, more=FORGED) as proxy:
        refused = await ask(proxy, "POST", "/api/v1/onboarding/onboard", "https://evil.example", ONBOARD)
        assert refused.status_code == 403
        job_id = await node.job()
        assert (await ask(proxy, "GET", f"/api/v1/jobs/{job_id}")).json()["log_url"].startswith(PUBLIC)


async def test_without_the_setting_nothing_says_that_there_is_a_proxy(tmp_path: Path) -> None:
    more = FORGED.replace("evil.example", NAME)
    async with (
        running_node(tmp_path, Rest(allowed_hosts=(NAME,))) as node,
        tls_proxy(tmp_path, NAME, node.port, more=more) as proxy,
    ):
        refused = await ask(proxy, "POST", "/api/v1/onboarding/onboard", PUBLIC, ONBOARD)
        assert refused.status_code == 403
        assert "rest.public_url" in refused.json()["detail"], "it says what to do"


async def test_behind_a_proxy_no_caller_counts_as_one_on_this_machine(tmp_path: Path, node: Node) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("of this machine's users")
    peer = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
    async with httpx.AsyncClient(verify=NO_TLS, timeout=120) as client:
        body = {"peerID": peer, "filePath": str(secret)}
        nobody = await client.post(f"{node.url}/api/v1/peers/file/send", json=body)
        assert nobody.status_code == 401, "root on this machine, as far as anybody can tell"
        answer = await client.post(f"{node.url}/api/v1/peers/file/send", json=body, headers=authorization())
    assert answer.status_code == 403
    assert "files.send_folders" in answer.json()["detail"]


@pytest.mark.slow
async def test_a_browsers_page_of_the_public_address_works_and_one_of_its_plain_address_can_do_nothing(
    tmp_path: Path, node: Node
) -> None:
    onboard = """body => fetch("/api/v1/onboarding/onboard", {
        method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify(body),
    }).then(answer => answer.status)"""
    login = """token => fetch("/api/v1/session", {
        method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify({token}),
    }).then(answer => answer.status)"""
    socket = """address => new Promise(tell => {
        const socket = new WebSocket(address);
        socket.onmessage = () => tell("open");
        socket.onerror = () => tell("refused");
    })"""
    async with tls_proxy(tmp_path, NAME, node.port) as proxy:
        rules = f"MAP {NAME}:443 127.0.0.1:{proxy.port}, MAP {NAME}:80 127.0.0.1:{node.port}"
        async with chromium(f"--host-resolver-rules={rules}") as browser:
            async with watched(browser, ignore_https_errors=True) as pages:
                page = await pages.open(f"{PUBLIC}/docs")
                assert await page.evaluate(login, TOKENS[0]) == 200
                assert await page.evaluate(onboard, ONBOARD) == 200
                assert await page.evaluate(socket, f"wss://{NAME}/api/v1/run/deploy") == "open"
            async with watched(browser, ignore_https_errors=True) as pages:
                pages.allowed += ["403"]
                page = await pages.open(f"http://{NAME}/docs")  # as somebody on the way could show it
                before = node.log.head
                assert await page.evaluate(onboard, ONBOARD) == 403
                assert node.log.head == before
