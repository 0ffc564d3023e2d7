"""The daemon's REST API as the commands use it: an answer, or a Failure with its exit code."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from dms.cli.failure import Failure
from dms.errors import Exit, exit_code_of

UNREADABLE_JSON = (ValueError, RecursionError)  # of json.loads: no JSON, no UTF-8, too long a number; too deep

if TYPE_CHECKING:
    from dms.config import Rest

# A command may wait for a provider's answer or a commit; a stream may be silent for long.
PATIENCE = httpx.Timeout(30.0, connect=5.0)
STREAM_PATIENCE = httpx.Timeout(30.0, connect=5.0, read=None)
CONTENT_PATIENCE = httpx.Timeout(120.0, connect=5.0)  # the daemon may have to open an archive first
NDJSON = {"accept": "application/x-ndjson"}
DMS_HEADER = "x-request-id"  # every answer of a DMS has it
_OTHER_URL = "name the DMS with --url or DMS_URL, such as http://127.0.0.1:9999"
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}


def url_of(rest: Rest) -> str:
    host = _EVERYWHERE.get(rest.addr, rest.addr)
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{'https' if rest.tls_cert else 'http'}://{host}:{rest.port}"


def checked_url(text: str) -> str:
    """Without the API's path and a last slash. Raises Failure unless it is an http address."""
    url = text.strip().rstrip("/").removesuffix("/api/v1")
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")  # as what resolves it will
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        usable = False
    if not usable:
        raise Failure(f"{text} is not the address of a DMS", Exit.USAGE, "it looks like http://127.0.0.1:9999")
    return url


def unreachable(url: str, error: BaseException | str) -> Failure:
    """error: of the try to connect, or what is said of it."""
    hint = (
        "start it with: nunet run    (installed as a service: systemctl status nunet-dms)\n"
        "if it runs elsewhere, name it with --url or DMS_URL"
    )
    why = error
    if isinstance(error, BaseException):
        for cause in _causes(error):
            if (known := _known_trouble(url, cause)) is not None:
                return known
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Failure(f"looks like DMS is not running... nothing answers at {url} ({why})", Exit.UNREACHABLE, hint)


def _known_trouble(url: str, error: BaseException) -> Failure | None:
    """Of those where it may well run."""
    if isinstance(error, socket.gaierror):
        text = f"the host {urlsplit(url).hostname} of {url} is not found ({error.strerror})"
        return Failure(text, Exit.UNREACHABLE, _OTHER_URL)
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"the certificate of {url} is not trusted: {error.verify_message}"
        return Failure(
            text, Exit.UNREACHABLE, "have the system trust whoever signed it, or name another DMS with --url"
        )
    if isinstance(error, ssl.SSLError):
        text = f"what answers at {url} speaks no TLS, or another one ({error.reason or error})"
        hint = f"a DMS without TLS is named so: --url http://{url.removeprefix('https://')}"
        return Failure(text, Exit.UNREACHABLE, hint)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def no_dms(url: str, what: str) -> Failure:
    """Of an answer that no DMS gives. what: the answer, in short."""
    return Failure(f"what answers at {url} is no DMS ({what})", Exit.UNREACHABLE, _OTHER_URL)


class Api:
    def __init__(self, url: str, token: str = "", certificate: str = "") -> None:
        """token: sent with each request; empty: none. certificate: the daemon's own, in a file, where that is known:
        then it alone is trusted; empty: whatever the system trusts for that name."""
        self.url = url
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        # A proxy for the web must not see what goes to a daemon on this machine. Certificates are read only where
        # they are needed: it takes longer than most commands.
        plain = url.startswith("http://")
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else _trusting(certificate)
        self._http = httpx.Client(
            base_url=f"{url}/api/v1", timeout=PATIENCE, trust_env=False, verify=self._tls, headers=self._headers
        )

    def close(self) -> None:
        self._http.close()

    def websocket_url(self, path: str) -> str:
        return "ws" + self.url.removeprefix("http") + "/api/v1" + path

    @property
    def websocket_options(self) -> dict[str, Any]:
        """Of a connection, for `websockets`."""
        return {
            "proxy": None,
            "additional_headers": self._headers,
            "ssl": None if self.url.startswith("http://") else self._tls,
        }

    def get(self, path: str, **query: object) -> Any:
        return self._ask("GET", path, query)

    def get_counted(self, path: str, **query: object) -> tuple[Any, int]:
        """(a page of a list, how many there are in all; 0 where an older daemon does not say)"""
        answer = self._answered("GET", path, query)
        return _decoded(answer), int(answer.headers.get("x-total", 0))

    def get_tagged(self, path: str) -> tuple[Any, str]:
        """(what is there, the name of this version of it; empty where an older daemon gives none)"""
        answer = self._answered("GET", path, {})
        return _decoded(answer), answer.headers.get("etag", "")

    def get_slowly(self, path: str, timeout_seconds: float, **query: object) -> Any:
        """Where the answer may take longer than usual."""
        return self._ask("GET", path, query, timeout_seconds=timeout_seconds)

    def post(self, path: str, body: object = None, *, timeout_seconds: float | None = None, **query: object) -> Any:
        """timeout_seconds: where the answer may take longer than usual."""
        return self._ask("POST", path, query, body, timeout_seconds)

    def put(self, path: str, body: object, tag: str) -> Any:
        """tag: of the version that it replaces, as `get_tagged` told. Raises Failure, Exit.CONFLICT for another."""
        return _decoded(self._answered("PUT", path, {}, body, headers={"if-match": tag} if tag else {}))

    def delete(self, path: str, **query: object) -> Any:
        return self._ask("DELETE", path, query)

    def items(self, path: str, **query: object) -> Iterator[Any]:
        """The rows of a list, over all its pages."""
        while True:
            page = self.get(path, **query)
            yield from page["items"]
            if not page["next_token"]:
                return
            query["after"] = page["next_token"]

    def lines(self, path: str, method: str = "GET", **query: object) -> Iterator[Any]:
        """The decoded lines of an NDJSON answer, as they come. Raises Failure, also for a broken connection."""
        with (
            self._failures(),
            self._http.stream(method, path, params=_given(query), headers=NDJSON, timeout=STREAM_PATIENCE) as answer,
        ):
            if answer.is_error:
                answer.read()
            _check(answer)
            for line in _lines(answer):
                if line.strip():
                    yield json.loads(line)

    def raw_lines(self, path: str, **query: object) -> Iterator[bytes]:
        """The lines of an answer as they come, each with its line break. Raises Failure."""
        with (
            self._failures(),
            self._http.stream("GET", path, params=_given(query), timeout=STREAM_PATIENCE) as answer,
        ):
            if answer.is_error:
                answer.read()
            _check(answer)
            yield from _lines(answer)

    @contextmanager
    def content(self, path: str, after: int = 0, tag: str = "") -> Iterator[tuple[int, Iterator[bytes]]]:
        """(the first byte that comes, what comes) of a file; from byte `after` on where it still is the one with this
        tag, else from its beginning. Raises Failure, also while it is read."""
        headers = {"range": f"bytes={after}-", "if-range": f'"{tag}"'} if after else {}
        with (
            self._failures(),
            self._http.stream("GET", path, headers=headers, timeout=CONTENT_PATIENCE) as answer,
        ):
            if answer.is_error:
                answer.read()
            _check(answer)
            yield (after if answer.status_code == 206 else 0), answer.iter_raw()

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        body: object = None,
        timeout_seconds: float | None = None,
    ) -> Any:
        return _decoded(self._answered(method, path, query, body, timeout_seconds))

    def _answered(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        body: object = None,
        timeout_seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Raises Failure."""
        content = None if body is None else _encoded(body)
        sent = {"content-type": "application/json"} if body is not None else {}
        patience = httpx.Timeout(timeout_seconds, connect=5.0) if timeout_seconds else PATIENCE
        with self._failures():
            answer = self._http.request(
                method,
                path,
                params=_given(query),
                content=content,
                timeout=patience,
                headers=sent | dict(headers or {}),
            )
        _check(answer)
        return answer

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise unreachable(self.url, error if str(error) else "timed out") from error
        except httpx.TimeoutException as error:
            raise Failure(f"{self.url} did not answer in time", Exit.TIMED_OUT) from error
        except (httpx.HTTPError, httpx.InvalidURL, *UNREADABLE_JSON) as error:
            text = f"{self.url} broke the connection: {str(error) or type(error).__name__}"
            plain = isinstance(error, httpx.RemoteProtocolError) and self.url.startswith("http://")
            raise Failure(text, hint="a DMS with TLS is named with https://" if plain else "") from error


def _encoded(body: Any) -> bytes:
    """Raises Failure for what JSON hasn't got."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise Failure("the request holds text that is not UTF-8", Exit.USAGE) from error
    except ValueError as error:
        raise Failure("the request holds a number that is none (nan), or is infinite", Exit.USAGE) from error


def _trusting(certificate: str) -> ssl.SSLContext:
    if certificate:
        with suppress(OSError, UnicodeDecodeError):  # of the daemon's user alone: then the system's have to do
            return _pinned(_first_certificate(Path(certificate).read_text()))
    return ssl.create_default_context()


def _pinned(certificate: str) -> ssl.SSLContext:
    """For the one who has its key, whatever names it has: that of this machine among others is seldom one of them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be signed by itself
    context.load_verify_locations(cadata=certificate)
    return context


def _first_certificate(pem: str) -> str:
    """Of a chain: the server's own. Raises ssl.SSLError, an OSError, where there is none."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    head, ended, _ = pem.partition(end)
    if not ended or begin not in head:
        raise ssl.SSLError("there is no certificate")
    return begin + head.rpartition(begin)[2] + end + "\n"


def _lines(answer: httpx.Response) -> Iterator[bytes]:
    """Each with its line break. Lines end at a line feed only: httpx's own splitting takes U+2028 and others for
    ends as well, which JSON has within its texts."""
    parts: list[bytes] = []
    for chunk in answer.iter_bytes():
        first, *more = chunk.split(b"\n")
        parts.append(first)
        for begun in more:
            yield b"".join(parts) + b"\n"
            parts = [begun]
    if rest := b"".join(parts):
        yield rest


def _given(query: Mapping[str, object]) -> dict[str, str]:
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in query.items()
        if value is not None and value != ""
    }


def _check(answer: httpx.Response) -> None:
    """Raises Failure unless it is an answer of a DMS, and no error."""
    if answer.is_success:
        if DMS_HEADER not in answer.headers:
            raise _foreign(answer)
        return
    body = _decoded(answer) if answer.is_error else None
    if not isinstance(body, dict) or not body.get("error"):
        raise _foreign(answer)
    text = _with_place(str(body["error"]), body.get("errors"))
    raise Failure(text, exit_code_of(answer.status_code))


def _foreign(answer: httpx.Response) -> Failure:
    where = f" to {answer.headers['location'][:200]}" if answer.has_redirect_location else ""
    url = answer.request.url
    what = f"{answer.status_code} {answer.reason_phrase}".rstrip() + where
    return no_dms(f"{url.scheme}://{url.netloc.decode()}", what)


def _with_place(text: str, problems: Any) -> str:
    """problems: of a request's body; where there is a single one, the text may leave out where that is."""
    match problems:
        case [{"pointer": str(pointer), "detail": str(detail)}] if pointer and pointer not in text:
            return f"{pointer}: {text}" if detail in text else f"{text} ({pointer}: {detail})"
    return text


def _decoded(answer: httpx.Response) -> Any:
    if not answer.content:
        return None
    try:
        return answer.json()
    except UNREADABLE_JSON as error:
        raise _foreign(answer) from error
