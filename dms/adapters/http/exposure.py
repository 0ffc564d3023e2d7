"""What a DMS that can be reached from other machines must have before it starts. Pure."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Protocol

from dms.errors import ConfigError


class ExposureSettings(Protocol):
    """What of the settings matters here."""

    @property
    def addr(self) -> str: ...
    @property
    def tls_cert(self) -> str: ...
    @property
    def tls_key(self) -> str: ...
    @property
    def tls_by_proxy(self) -> bool: ...


def is_loopback(addr: str) -> bool:
    try:
        return ip_address(addr.strip("[]")).is_loopback
    except ValueError:
        return addr.casefold() == "localhost"


def check_tls(rest: ExposureSettings) -> None:
    """Raises ConfigError that says what is missing, and the way out."""
    if bool(rest.tls_cert) != bool(rest.tls_key):
        raise ConfigError("rest.tls_cert and rest.tls_key belong together: a certificate chain and its key, in PEM")
    if not is_loopback(rest.addr) and not rest.tls_cert and not rest.tls_by_proxy:
        raise ConfigError(
            f"{_reached(rest)}, where tokens must not be sent in the clear. Set rest.tls_cert and rest.tls_key; or, "
            "where a proxy in front of it speaks TLS, rest.tls_by_proxy; or listen on 127.0.0.1 only"
        )


def check_token(rest: ExposureSettings, *, has_token: bool) -> None:
    """has_token: one is in force. Raises ConfigError that says the way out."""
    if not is_loopback(rest.addr) and not has_token:
        raise ConfigError(
            f"{_reached(rest)}, and there is no token to keep strangers out. Make one, then start again: "
            "nunet token create NAME --role admin (it needs no running DMS). Or listen on 127.0.0.1 only"
        )


def _reached(rest: ExposureSettings) -> str:
    return f"rest.addr {rest.addr} can be reached from other machines"
