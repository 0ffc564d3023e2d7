"""Files of the web."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from dms.errors import Unavailable


class WebFile(Protocol):
    """An answer whose body is still to be read. after: the byte of the file that it begins with. total_bytes: of the
    whole file; None when the server does not say. validator: names this version of the file, to go on with it later;
    empty when nothing does."""

    after: int
    total_bytes: int | None
    validator: str

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Ends with the file's end. Raises WebTrouble when it was cut."""


class WebTrouble(Unavailable):
    """It may pass. retry_after_seconds: as the server asks for; 0 when it does not."""

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Web(Protocol):
    """Fetches files of the internet, and of nowhere else but networks that the operator names."""

    def objection(self, url: str) -> str:
        """Why it is never fetched, as far as the URL itself tells; empty when it may be."""

    def open(self, url: str, after: int = 0, validator: str = "") -> AbstractAsyncContextManager[WebFile]:
        """From byte `after` on, when the file is still the one of the validator; else, and where a server can't do
        that, from its beginning. Raises InputRefused (not there, not allowed), WebTrouble. Texts hold no more of a URL
        than its path."""

    async def close(self) -> None: ...
