"""The gate: who may speak to this server at all. Every request and every websocket handshake passes
it before it is routed; a GET that changes something passes `check_change` as well (see Route.changes).

A web page of a stranger can reach a server on loopback in three ways: by a name that it turned to
127.0.0.1 (refused by Host), by a cross-site request or websocket (refused by Origin; where a browser sends none,
as for an image, by Sec-Fetch-Site and Referer), and by a body that needs no preflight (refused by Content-Type).
Programs send none of these and are not affected.

Behind a proxy, only what is configured says where browsers reach this server (`rest.public_url`). What a request says
of that itself, as `Forwarded` and `X-Forwarded-*` do, anybody can write: it is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from sanic import Request

from dms.adapters.http.problems import Refused

LOOPBACK = ("127.0.0.1", "::1")
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_SITES = ("none", "same-origin")  # typed by the user, or from a page of ours
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_PARAMETER = re.compile(r"""\s*;\s*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s;"]*))?\s*""")
_UTF_8 = ("utf-8", "utf8")
_METHODS = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
_HEADERS = "Origin, Content-Length, Content-Type, X-Request-ID, Traceparent, X-Log-Token, If-Match"
_EXPOSED = "X-Request-ID, Link, X-Position, X-Total, X-Head, ETag"
_PREFLIGHT_SECONDS = 12 * 3600


class Gate:
    def __init__(
        self, addr: str, allowed_hosts: Iterable[str], allowed_origins: Iterable[str], public_url: str = ""
    ) -> None:
        """addr: what the server listens on; a wildcard address is not a name of its own. public_url: of the proxy in
        front of it, empty for none."""
        own = f"[{addr}]" if ":" in addr and not addr.startswith("[") else addr
        wildcard = own in ("0.0.0.0", "[::]")
        self.public_origin = _without_usual_port(public_url.rstrip("/").casefold())
        self._public_name = _name_of(self.public_origin.partition("://")[2])
        proxied = (self._public_name,) if self._public_name else ()
        names = (*LOOPBACK_NAMES, *allowed_hosts, *(() if wildcard else (own,)), *proxied)
        self._hosts = {name.casefold() for name in names}
        self._origins = frozenset(origin.rstrip("/") for origin in allowed_origins)

    def check(self, request: Request) -> None:
        """Raises Refused: 421 Host, 403 Origin or cross-site, 415 a body that is not JSON."""
        host = self._host(request)
        self._check_origin(request, host)
        if request.method not in SAFE_METHODS:
            self.check_change(request, host)
            _check_body(request)

    def check_change(self, request: Request, host: str | None = None) -> None:
        """Raises Refused (403) when a page of elsewhere makes a browser do it."""
        headers = request.headers
        if "origin" in headers:
            return  # it was looked at
        if headers.get("sec-fetch-site", "none") not in _SITES:
            raise Refused(403, "a web page of another site may not change anything here")
        if "sec-purpose" in headers or "purpose" in headers:
            raise Refused(403, "what is only fetched ahead may not change anything here")
        for page in headers.getall("referer", []):
            if not self.allows(_origin_of(page), host or self._host(request)):
                raise Refused(403, f"web pages of '{_origin_of(page)[:128]}' may not change anything here")

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
            setting = "rest.public_url" if origins == [f"https://{host}"] else "rest.allowed_origins"
            raise Refused(403, f"web pages of '{origins[0][:128]}' may not call this DMS; see {setting}")

    def allows(self, origin: str, host: str) -> bool:
        """Own pages (the origin is the Host that was asked for, or the public one), and the configured ones, exactly.
        Under the public name, pages of another scheme or port are somebody else's: whoever is on the way to a reader
        can write plain http ones."""
        if origin in self._origins or (self.public_origin and origin == self.public_origin):
            return True
        return origin == f"http://{host}" and not self._is_public(host)

    def _is_public(self, host: str) -> bool:
        return bool(self._public_name) and _name_of(host) == self._public_name

    def base_url(self, request: Request) -> str:
        """Of this server as the caller knows it, for the links that it is given."""
        host = request.headers["host"].strip().casefold()
        public = self._is_public(host) or request.headers.get("origin", "") == self.public_origin
        return self.public_origin if self.public_origin and public else f"http://{host}"

    def is_local(self, request: Request) -> bool:
        """Whether the caller is surely on this machine."""
        return request.ip in LOOPBACK and not self.public_origin

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


def base_url(request: Request) -> str:
    """Of the server, as the caller knows it."""
    return _gate_of(request).base_url(request)


def is_local(request: Request) -> bool:
    """Whether the caller is surely on this machine."""
    return _gate_of(request).is_local(request)


def _gate_of(request: Request) -> Gate:
    gate: Gate = request.app.ctx.gate
    return gate


def _without_usual_port(origin: str) -> str:
    """As browsers write an origin. Source: RFC 6454, section 6.2."""
    scheme, _, host = origin.partition("://")
    usual = {"http": ":80", "https": ":443"}.get(scheme, "")
    return origin.removesuffix(usual) if usual and host.endswith(usual) else origin


def _name_of(host: str) -> str:
    """Without the port."""
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def _origin_of(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    return f"{parts.scheme}://{parts.netloc}".casefold()


def _check_body(request: Request) -> None:
    """Raises Refused (415) for a body that is not plain JSON in UTF-8."""
    headers = request.headers
    if not headers.get("content-length", "0").strip("0 ") and "transfer-encoding" not in headers:
        return
    types = headers.getall("content-type", [])
    if len(types) != 1 or not _is_json(types[0]):
        raise Refused(415, "the body must be sent as application/json (in UTF-8)")
    coding = ", ".join(headers.getall("content-encoding", [])).strip()
    if coding.casefold() not in ("", "identity"):
        text = f"content-encoding '{coding[:64]}' is not understood: the body must be sent as it is"
        raise Refused(415, text, {"accept-encoding": "identity"})


def _is_json(content_type: str) -> bool:
    media, _, rest = content_type.partition(";")
    rest = f";{rest}"
    found = list(_PARAMETER.finditer(rest))
    if "".join(match[0] for match in found) != rest:
        return False
    charsets = [match[2].strip('"').casefold() for match in found if (match[1] or "").casefold() == "charset"]
    return media.strip().casefold() == "application/json" and all(name in _UTF_8 for name in charsets)
