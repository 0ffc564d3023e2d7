"""What the command `nunet` says where it is sent to what is no DMS."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dms.errors import Exit
from tests.unit.cli.nunet import nunet
from tests.unit.cli.tiny_dms import TinyDms

HTML = "<html><body>It works!</body></html>"
CHAT = ("chat", "start", "12D3KooWMHkAktSX7UWtGzEo8VtUh8d7LGdQFnK3yDH9NS7vH6Aq")
HINT = "hint: name the DMS with --url or DMS_URL"


@contextmanager
def web_server(status: int, body: str, headers: Mapping[str, str]) -> Iterator[str]:
    """That answers so whatever it is asked."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815 -- http.server's name

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


COMMANDS = (("info",), ("events", "tail"), ("capacity",), ("device", "set", "online"), ("top", "--once"))
ANSWERS: tuple[tuple[int, str, Mapping[str, str], str], ...] = (
    (404, HTML, {"Content-Type": "text/html"}, "404 Not Found"),
    (404, '{"detail":"Not Found"}', {"Content-Type": "application/json"}, "404 Not Found"),
    (200, HTML, {"Content-Type": "text/html"}, "200 OK"),
    (200, "[]", {"Content-Type": "application/json"}, "200 OK"),
    (502, HTML, {"Content-Type": "text/html"}, "502 Bad Gateway"),
    (302, "", {}, "302 Found"),  # that says nowhere to go
)
REDIRECT = (301, "", {"Location": "https://example.org/"}, "301 Moved Permanently to https://example.org/")


@pytest.mark.parametrize(
    ("args", "status", "body", "headers", "said"),
    [
        *((args, *answer) for args in (*COMMANDS, CHAT) for answer in ANSWERS),
        *((args, *REDIRECT) for args in COMMANDS),  # a websocket goes where it is sent to
    ],
)
def test_another_server_is_no_dms(
    args: tuple[str, ...], status: int, body: str, headers: Mapping[str, str], said: str
) -> None:
    with web_server(status, body, headers) as url:
        result = nunet(*args, "--url", url)
    assert (result.exit_code, result.stdout) == (Exit.UNREACHABLE, "")
    assert f"error: what answers at {url} is no DMS ({said})\n" in result.stderr
    assert HINT in result.stderr


@pytest.mark.parametrize("args", [("info",), CHAT])
def test_a_dms_without_tls_is_not_said_to_be_away(tiny: TinyDms, args: tuple[str, ...]) -> None:
    address = tiny.url.removeprefix("http://")
    result = nunet(*args, "--url", f"https://{address}")
    assert result.exit_code == Exit.UNREACHABLE
    assert result.stderr.startswith(f"error: what answers at https://{address} speaks no TLS, or another one")
    assert f"--url http://{address}" in result.stderr
    assert "not running" not in result.stderr


@pytest.mark.parametrize("args", [("info",), CHAT])
def test_a_host_that_is_not_found_is_said_so(args: tuple[str, ...]) -> None:
    result = nunet(*args, "--url", "http://no-such-host.invalid:9999")
    assert result.exit_code == Exit.UNREACHABLE
    assert result.stderr.startswith(
        "error: the host no-such-host.invalid of http://no-such-host.invalid:9999 is not found"
    )
    assert HINT in result.stderr
    assert "not running" not in result.stderr
