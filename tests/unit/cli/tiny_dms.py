"""A daemon's API as far as the commands need it: real HTTP and websockets, with answers made up by the test."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

CUT: Mapping[str, Any] = {"action": "cut"}  # in a script: the connection is cut here
WAIT: Mapping[str, Any] = {"action": "wait"}  # in a script: until the test sets `go_on`
HEAR: Mapping[str, Any] = {"action": "hear"}  # in a script: wait for a message of the client


def close(code: int, reason: str) -> Mapping[str, Any]:
    """In a script: the websocket is closed so."""
    return {"action": "close", "code": code, "reason": reason}


_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class TinyDms:
    """answers: "GET /path" -> (status, body); a tuple of bodies is sent as NDJSON. scripts: one a websocket."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.scripts: list[Sequence[Mapping[str, Any]]] = []
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.heard: list[dict[str, Any]] = []
        self.sockets: list[dict[str, str]] = []  # the query of each websocket
        self.url = ""
        self.go_on = threading.Event()

    @contextmanager
    def running(self) -> Iterator[TinyDms]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.daemon_threads = True
        cast("Any", server).tiny = self
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self._play()
        else:
            self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    @property
    def _tiny(self) -> TinyDms:
        return cast("TinyDms", cast("Any", self.server).tiny)

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        target = urlsplit(self.path)
        path = target.path.removeprefix("/api/v1")
        self._tiny.asked.append(
            (f"{self.command} {path}", dict(parse_qsl(target.query)), json.loads(body) if body else None)
        )
        missing = (404, {"error": f"the test has no answer to {self.command} {path}"})
        status, answer = self._tiny.answers.get(f"{self.command} {path}", missing)
        is_stream = isinstance(answer, tuple)
        data = "".join(json.dumps(item) + "\n" for item in answer) if is_stream else json.dumps(answer)
        self.send_response(status)
        self.send_header("X-Request-ID", "tiny")
        self.send_header("Content-Type", "application/x-ndjson" if is_stream else "application/json")
        self.send_header("Content-Length", str(len(data.encode())))
        self.end_headers()
        self.wfile.write(data.encode())

    def _play(self) -> None:
        tiny = self._tiny
        tiny.sockets.append(dict(parse_qsl(urlsplit(self.path).query)))
        accept = hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + _ACCEPT).digest()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(accept).decode())
        if "Sec-WebSocket-Protocol" in self.headers:
            self.send_header("Sec-WebSocket-Protocol", self.headers["Sec-WebSocket-Protocol"])
        self.end_headers()
        self.close_connection = True
        protocol = ServerProtocol(state=State.OPEN, max_size=None)
        for frame in tiny.scripts.pop(0):
            if frame is CUT:
                return
            if frame is WAIT:
                tiny.go_on.wait(120)
                continue
            if isinstance(frame, dict) and frame.get("action") == "close":
                reason = struct.pack(">H", frame["code"]) + str(frame["reason"]).encode()
                self.wfile.write(Frame(Opcode.CLOSE, reason).serialize(mask=False))
                continue
            if frame is HEAR:
                if not self._hear(protocol):
                    return
                continue
            self.wfile.write(Frame(Opcode.TEXT, json.dumps(frame).encode()).serialize(mask=False))
        while self._hear(protocol):
            """Until the client closes."""

    def _hear(self, protocol: ServerProtocol) -> bool:
        """Whether a message came, and not the end."""
        while data := self.connection.recv(65_536):
            protocol.receive_data(data)
            for event in protocol.events_received():
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    self._tiny.heard.append(json.loads(bytes(event.data)))
                    return True
                if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                    for answer in protocol.data_to_send():
                        self.wfile.write(answer)
                    return False
        return False
