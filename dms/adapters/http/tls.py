"""https by certificate files, which are read again when they change: a renewed one needs no restart."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from pathlib import Path

from dms.application.loops import Loop, Loops
from dms.errors import ConfigError
from dms.service_view import hiding_hint

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """context: for the server; connections made after a change get the new certificate."""

    def __init__(self, cert: Path, key: Path, loops: Loops, look_seconds: float = LOOK_SECONDS) -> None:
        """Raises ConfigError when the files can't be used."""
        self._cert, self._key, self._loops, self._look_seconds = cert, key, loops, look_seconds
        self._stamp: Stamp = ()
        self._loop: Loop | None = None
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        try:
            self._load()
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(_trouble(cert, key, error)) from error

    def start(self) -> None:
        self._loop = self._loops.every(self._look_seconds, "certificate", self.look, at_once=False)

    async def close(self) -> None:
        if self._loop is not None:
            await self._loop.close()

    async def look(self) -> None:
        """Takes the files up when they are others than before. Ones that can't be used leave the old in force."""
        try:
            if await asyncio.to_thread(self._read_stamp) != self._stamp:
                self._load()
                log.info("the certificate %s was read again", self._cert, extra={"action": "certificate_renewed"})
        except (OSError, ssl.SSLError) as error:
            log.warning("%s; the one before stays in use", _trouble(self._cert, self._key, error))

    def _load(self) -> None:
        """A pair that does not fit is found on a context of its own, so that the one in use is never half of each."""
        stamp = self._read_stamp()
        _try(self._cert, self._key)
        self.context.load_cert_chain(self._cert, self._key, password=_no_password)
        self._stamp = stamp

    def _read_stamp(self) -> Stamp:
        return tuple(
            (found.st_ino, found.st_mtime_ns, found.st_size) for found in map(os.stat, (self._cert, self._key))
        )


def check_files(cert: Path, key: Path) -> None:
    """Raises ConfigError when they can't be used."""
    try:
        _try(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(_trouble(cert, key, error)) from error


def _try(cert: Path, key: Path) -> None:
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)


def _no_password() -> str:
    """In place of a question at the terminal."""
    raise ssl.SSLError("the key needs a passphrase, which nobody can give at a start")


def _trouble(cert: Path, key: Path, error: Exception) -> str:
    what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    hint = hiding_hint(cert) or hiding_hint(key)
    named = f"rest.tls_cert {cert} with rest.tls_key {key}"
    return f"{named} can't be used: {what}{hint}; a chain and its key in PEM are expected"
