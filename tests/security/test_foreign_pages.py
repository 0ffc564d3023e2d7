"""What a web page, or a stranger's client, may try on the API: refused, and nothing is appended to the log."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import websockets

from tests.fixtures.dms import ADDRESS, Dms, payment, request_body, running_dms

ONBOARD = {"cpu": 1000, "memory": 4000, "channel": "nunet-test", "payment_addr": ADDRESS}


@pytest.fixture(scope="module")
def dms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dms]:
    with running_dms(tmp_path_factory.mktemp("dms"), **{"job.executor": "process"}) as one:
        yield one


@pytest.mark.parametrize(
    ("headers", "statuses"),
    [
        ({"Origin": "https://evil.example"}, {403}),
        ({"Origin": "null"}, {403}),
        ({"Origin": "http://localhost.evil.example"}, {403}),
        ({"Host": "evil.example"}, {403, 421}),
        ({"Sec-Fetch-Site": "cross-site"}, {403}),
        ({"Content-Type": "text/plain"}, {415}),
        ({"Content-Type": "application/x-www-form-urlencoded"}, {415}),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("path", ["/onboarding/onboard", "/run/request-service", "/device/status"])
async def test_foreign_post_is_refused_and_nothing_appended(
    dms: Dms, path: str, headers: dict[str, str], statuses: set[int]
) -> None:
    before = dms.head()
    body = httpx.Request("POST", "http://x", json=ONBOARD).content
    async with httpx.AsyncClient(timeout=120) as client:
        answer = await client.post(
            f"{dms.url}/api/v1{path}", content=body, headers={"Content-Type": "application/json", **headers}
        )
    assert answer.status_code in statuses, answer.text
    assert "Traceback" not in answer.text
    assert dms.head() == before


@pytest.mark.parametrize("path", ["/api/v1/run/deploy", "/run/deploy"])
@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:9999@evil.example"}],
    ids=lambda value: str(value["Origin"]),
)
async def test_foreign_websocket_is_refused_before_the_upgrade(dms: Dms, path: str, headers: dict[str, str]) -> None:
    before = dms.head()
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with websockets.connect(f"ws://127.0.0.1:{dms.rest_port}{path}", additional_headers=headers):
            pass
    assert refused.value.response.status_code == 403
    assert dms.head() == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"cpu": NaN}',
        b'{"cpu": 1e999}',
        b'{"cpu": 1, "CPU": 2}',
        b'{"channel": "\\ud800"}',
        b'{"channel": "a\\u0000b"}',
        b"[" * 5000 + b"]" * 5000,
        b'{"cpu": ' + b"9" * 5000 + b"}",
        b'{"cpu": "much"}',
        b"\xff\xfe",
        b"null",
    ],
    ids=range(12),
)
async def test_malformed_json_is_a_400_that_says_why(dms: Dms, body: bytes) -> None:
    before = dms.head()
    async with httpx.AsyncClient(timeout=120) as client:
        for path in ("/onboarding/onboard", "/run/request-service", "/device/status"):
            answer = await client.post(
                f"{dms.url}/api/v1{path}", content=body, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 400, (path, answer.status_code, answer.text)
            assert answer.json()["error"]
    assert dms.head() == before


async def test_body_beyond_the_limit_is_a_413(dms: Dms) -> None:
    async with httpx.AsyncClient(timeout=120) as client:
        answer = await client.post(
            f"{dms.url}/api/v1/run/request-service", json={**request_body("true"), "padding": "x" * 300_000}
        )
    assert answer.status_code == 413


async def test_unknown_actions_and_bad_frames_are_answered_and_the_socket_stays_open(dms: Dms) -> None:
    before = dms.head()
    async with websockets.connect(f"ws://127.0.0.1:{dms.rest_port}/api/v1/run/deploy") as socket:
        assert '"connected"' in str(await socket.recv())
        for frame in ("{", "[]", '{"action": "dance"}', '{"action": "send-status", "message": 7}', payment("nobody")):
            await socket.send(frame)
            assert '"error"' in str(await socket.recv()), frame
    assert dms.head() == before
