"""What is fetched of the web, and from where it never is: real servers on addresses of loopback."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dms.adapters.web.files import MOST_REDIRECTS, WebFiles
from dms.application.ports.web import WebTrouble
from dms.errors import InputRefused
from tests.fixtures.netns import other_host
from tests.fixtures.ports import free_port
from tests.fixtures.web_server import (
    Asked,
    Send,
    WebServer,
    broken_after,
    chunked,
    content,
    in_turn,
    redirect,
    status,
    web_server,
)

ONE = (ipaddress.ip_network("127.0.0.1/32"),)
DATA = bytes(range(256)) * 1000


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    async with web_server() as made:
        yield made


@pytest.fixture
async def web() -> AsyncIterator[WebFiles]:
    """127.0.0.1 counts as outside, the rest of 127.0.0.0/8 does not."""
    made = WebFiles(ONE)
    yield made
    await made.close()


async def fetched(web: WebFiles, url: str, after: int = 0, validator: str = "") -> tuple[int, int | None, bytes]:
    async with web.open(url, after, validator) as answer:
        return answer.after, answer.total_bytes, b"".join([piece async for piece in answer.chunks()])


async def test_a_file_comes_whole_and_says_which_it_is(web: WebFiles, server: WebServer) -> None:
    server.answers["/x?a=b%20c"] = content(DATA, "v1")
    async with web.open(server.url("/x?a=b%20c")) as answer:
        assert (answer.after, answer.total_bytes, answer.validator) == (0, len(DATA), '"v1"')
        assert b"".join([piece async for piece in answer.chunks()]) == DATA
    (asked,) = server.asked
    assert asked.headers["host"] == f"127.0.0.1:{server.port}"
    assert asked.headers["accept-encoding"] == "identity"


async def test_a_file_is_gone_on_with_while_it_is_the_same(web: WebFiles, server: WebServer) -> None:
    server.answers["/x"] = content(DATA, "v1")
    assert await fetched(web, server.url("/x"), 1000, '"v1"') == (1000, len(DATA), DATA[1000:])
    assert await fetched(web, server.url("/x"), 1000, '"v0"') == (0, len(DATA), DATA)
    assert await fetched(web, server.url("/x"), 1000) == (1000, len(DATA), DATA[1000:])


async def test_a_body_without_a_length_ends_with_its_end(web: WebFiles, server: WebServer) -> None:
    server.answers["/x"] = chunked(DATA)
    assert await fetched(web, server.url("/x")) == (0, None, DATA)


@pytest.mark.parametrize(
    "answer",
    [
        broken_after(DATA, 1000),
        chunked(DATA, ended=False),
        status("503 Service Unavailable"),
        status("500 Internal Server Error"),
        status("429 Too Many Requests"),
        status("408 Request Timeout"),
        status("204 No Content"),
    ],
)
async def test_what_may_pass_is_told_from_what_will_not(web: WebFiles, server: WebServer, answer: Any) -> None:
    server.answers["/x"] = answer
    with pytest.raises(WebTrouble):
        await fetched(web, server.url("/x"))


@pytest.mark.parametrize("line", ["404 Not Found", "410 Gone", "401 Unauthorized", "403 Forbidden", "451 Secret"])
async def test_what_the_server_refuses_will_not_pass(web: WebFiles, server: WebServer, line: str) -> None:
    server.answers["/x?key=hush"] = status(line)
    with pytest.raises(InputRefused, match=line[:3]) as refused:
        await fetched(web, server.url("/x?key=hush"))
    assert "hush" not in str(refused.value)


async def test_a_server_is_left_alone_as_long_as_it_asks(web: WebFiles, server: WebServer) -> None:
    server.answers["/x"] = status("503 Busy", "Retry-After: 7\r\n")
    server.answers["/y"] = status("503 Busy", f"Retry-After: {'9' * 400}\r\n")
    for path, seconds in (("/x", 7.0), ("/y", 120.0)):
        with pytest.raises(WebTrouble) as trouble:
            await fetched(web, server.url(path))
        assert trouble.value.retry_after_seconds == seconds


async def test_nobody_there_and_no_such_name_may_pass(web: WebFiles) -> None:
    for url in (f"http://127.0.0.1:{free_port()}/x", "http://no-such-host.invalid/x"):
        with pytest.raises(WebTrouble):
            await fetched(web, url)


async def test_a_part_that_was_not_asked_for_is_not_taken(web: WebFiles, server: WebServer) -> None:
    async def other_part(_: Asked, send: Send) -> None:
        await send(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\nabcde")

    server.answers["/x"] = in_turn(other_part, content(DATA))
    assert await fetched(web, server.url("/x"), 3) == (0, len(DATA), DATA)
    server.answers["/x"] = other_part
    with pytest.raises(WebTrouble, match="206"):
        await fetched(web, server.url("/x"), 3)


async def test_a_file_that_is_shorter_now_or_another_one_is_fetched_from_its_first_byte(
    web: WebFiles, server: WebServer
) -> None:
    """Also of a server that gives a range of another version than was asked for."""
    server.answers["/x"] = in_turn(status("416 Range Not Satisfiable"), content(DATA))
    assert await fetched(web, server.url("/x"), len(DATA) + 1) == (0, len(DATA), DATA)

    async def ignores_if_range(asked: Asked, send: Send) -> None:
        asked.headers.pop("if-range", None)
        await content(DATA, "v2")(asked, send)

    server.answers["/x"] = ignores_if_range
    assert await fetched(web, server.url("/x"), 10, '"v1"') == (0, len(DATA), DATA)


# --- where nothing is fetched ----------------------------------------------------------------------
@pytest.mark.parametrize(
    "host",
    ["127.0.0.2", "localhost", "[::1]", "[::ffff:127.0.0.2]", "2130706434", "0x7f000002", "127.2", "0.0.0.0",
     "[64:ff9b::7f00:2]", "169.254.169.254", "10.0.0.1", "100.64.0.1", "[fd00::1]", "[fe80::1]", "224.0.0.1"],
)  # fmt: skip
async def test_nothing_is_fetched_from_inner_networks(server: WebServer, host: str) -> None:
    web = WebFiles()
    server.answers["/x"] = content(DATA)
    with pytest.raises(InputRefused, match=r"inner network|no URL|can't be fetched") as refused:
        await fetched(web, server.url("/x", host))
    assert server.asked == []
    assert "127.0.0." not in str(refused.value).replace(host.strip("[]"), "")
    await web.close()


async def test_an_inner_address_is_known_before_anything_is_fetched(web: WebFiles) -> None:
    assert web.objection("http://127.0.0.2/x") != ""
    assert web.objection("http://[::1]/x") != ""
    assert web.objection("http://127.0.0.1/x") == ""
    assert web.objection("https://example.org/x") == ""


@pytest.mark.parametrize("to", ["http://127.0.0.2:{port}/y", "//127.0.0.2:{port}/y", "http://localhost:{port}/y"])
async def test_no_redirect_leads_into_an_inner_network(server: WebServer, to: str) -> None:
    web = WebFiles((ipaddress.ip_network("127.0.0.3/32"),))
    server.answers |= {"/x": redirect(to.format(port=server.port)), "/y": content(DATA)}
    with pytest.raises(InputRefused, match="inner network"):
        await fetched(web, server.url("/x", "127.0.0.3"))
    assert [asked.path for asked in server.asked] == ["/x"]
    await web.close()


async def test_redirects_are_followed_and_bounded(web: WebFiles, server: WebServer) -> None:
    server.answers |= {f"/{n}": redirect(f"{n + 1}") for n in range(MOST_REDIRECTS)}
    server.answers[f"/{MOST_REDIRECTS}"] = content(DATA)
    assert await fetched(web, server.url("/0"), 10) == (10, len(DATA), DATA[10:])
    server.answers[f"/{MOST_REDIRECTS}"] = redirect("/0")
    with pytest.raises(InputRefused, match="redirected more than"):
        await fetched(web, server.url("/0"))


@pytest.mark.parametrize("to", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://a:b@127.0.0.1/", "http://[::zz]/"])
async def test_no_redirect_leads_to_what_is_no_web_page(web: WebFiles, server: WebServer, to: str) -> None:
    server.answers["/x"] = redirect(to)
    with pytest.raises(InputRefused):
        await fetched(web, server.url("/x"))


async def test_a_name_that_changes_between_look_up_and_connection_leads_nowhere_else(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that says 127.0.0.3 first, which may be reached, and 127.0.0.2 from then on, which may not."""
    answers = iter(["127.0.0.3"])
    monkeypatch.setattr("dms.lookups.system_addresses", lambda _: [next(answers, "127.0.0.2")])
    web = WebFiles((ipaddress.ip_network("127.0.0.3/32"),))
    server.answers["/x"] = content(DATA)
    assert (await fetched(web, server.url("/x", "rebinding.test")))[2] == DATA
    with pytest.raises(InputRefused, match="inner network"):
        await fetched(web, server.url("/x", "rebinding.test"))
    assert [asked.at for asked in server.asked] == ["127.0.0.3"]
    await web.close()


OWN_ADDRESS = """
import asyncio
from dms.adapters.web.files import WebFiles
from dms.errors import InputRefused
async def main():
    server = await asyncio.start_server(lambda _, writer: writer.close(), "93.184.216.34", 8080)
    try:
        async with WebFiles().open("http://93.184.216.34:8080/x"):
            print("fetched")
    except InputRefused as refused:
        print("refused" if "inner network" in str(refused) else refused)
asyncio.run(main())
"""


@pytest.mark.slow
def test_a_public_address_of_this_very_machine_is_not_outside() -> None:
    with other_host() as host:
        inside = ["ip", "netns", "exec", host.name]
        subprocess.run([*inside, "ip", "addr", "add", "93.184.216.34/32", "dev", "lo"], check=True, timeout=120)
        done = subprocess.run(
            [*inside, sys.executable, "-c", OWN_ADDRESS], capture_output=True, text=True, timeout=120, check=False
        )
    assert (done.stdout, done.stderr) == ("refused\n", "")
