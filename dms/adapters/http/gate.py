"""The gate: who may speak to this server at all. Every request and every websocket handshake passes
it before it is routed.

A web page of a stranger can reach a server on loopback in three ways: by a name that it turned to
127.0.0.1 (refused by Host), by a cross-site request or websocket (refused by Origin), and by a body
that needs no preflight (refused by Content-Type). Programs send no Origin and are not affected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sanic import Request

from dms.adapters.http.problems import Refused

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_METHODS = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
_HEADERS = "Origin, Content-Length, Content-Type, X-Request-ID, Traceparent"
_EXPOSED = "X-Request-ID, Link"
_PREFLIGHT_SECONDS = 12 * 3600


class Gate:
    def __init__(self, addr: str, allowed_hosts: Iterable[str], allowed_origins: Iterable[str]) -> None:
        """addr: what the server listens on; a wildcard address is no name of its own."""
        own = f"[{addr}]" if ":" in addr and not addr.startswith("[") else addr
        wildcard = own in ("0.0.0.0", "[::]")
        names = (*LOOPBACK_NAMES, *allowed_hosts, *(() if wildcard else (own,)))
        self._hosts = {name.casefold() for name in names}
        self._origins = frozenset(origin.rstrip("/") for origin in allowed_origins)

    def check(self, request: Request) -> None:
        """Raises Refused: 421 Host, 403 Origin or cross-site, 415 a body that is not JSON."""
        host = self._host(request)
        self._check_origin(request, host)
        if request.method not in SAFE_METHODS:
            self._check_change(request)

    def _host(self, request: Request) -> str:
        hosts = request.headers.getall("host", [])
        if len(hosts) != 1:
            raise Refused(421, "exactly one Host header is expected")
        match = _HOST.fullmatch(hosts[0].strip())
        if match is None or match[1].casefold() not in self._hosts:
            raise Refused(
                421, f"this server is not '{hosts[0][:128]}'; names it should answer to belong in rest.allowed_hosts"
            )
        return match[0].casefold()

    def _check_origin(self, request: Request, host: str) -> None:
        origins = request.headers.getall("origin", [])
        if origins and (len(origins) > 1 or not self.allows(origins[0], host)):
            raise Refused(403, f"web pages of '{origins[0][:128]}' may not call this DMS; see rest.allowed_origins")

    def _check_change(self, request: Request) -> None:
        site = request.headers.get("sec-fetch-site", "")
        if site == "cross-site" and "origin" not in request.headers:
            raise Refused(403, "a web page of another site may not change anything here")
        length = request.headers.get("content-length", "0")
        if length.strip("0 ") or "transfer-encoding" in request.headers:
            media, _, parameters = request.headers.get("content-type", "").partition(";")
            charset = parameters.strip().casefold().replace('"', "")
            if media.strip().casefold() != "application/json" or charset not in ("", "charset=utf-8"):
                raise Refused(415, "the body must be sent as application/json (in UTF-8)")

    def allows(self, origin: str, host: str) -> bool:
        """Own pages (the origin is the Host that was asked for), and the configured ones, exactly."""
        return origin == f"http://{host}" or origin in self._origins

    def cors(self, request: Request) -> dict[str, str]:
        """The headers that let a page of an allowed origin read the answer."""
        origin = request.headers.get("origin")
        if origin is None or origin not in self._origins:
            return {"vary": "Origin"}
        return {
            "vary": "Origin",
            "access-control-allow-origin": origin,
            "access-control-expose-headers": _EXPOSED,
        }

    def preflight(self, request: Request) -> dict[str, str]:
        if request.headers.get("origin") not in self._origins:
            return {}
        return {
            "access-control-allow-methods": _METHODS,
            "access-control-allow-headers": _HEADERS,
            "access-control-max-age": str(_PREFLIGHT_SECONDS),
        }
