"""One input on its way to this compute provider: from the web, over cuts and refusals that pass, or from the peer whose
file it is. It is whole and checked when it is there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

from msgspec import Struct

from dms.application.files.file_exchange import FileExchange, FileRef
from dms.application.files.file_parts import PartFile, digest_of
from dms.application.inputs.input_files import InputFiles
from dms.application.ports.web import Web, WebFile, WebTrouble
from dms.backoff import Backoff
from dms.domain.inputs import Input
from dms.errors import (
    Conflict,
    DiskTrouble,
    DmsError,
    InputRefused,
    InputUnavailable,
    LogUnavailable,
    Unavailable,
)
from dms.long_work import long_work

log = logging.getLogger(__name__)

KIND = "input"
PAUSES_SECONDS = (0.2, 30.0)  # first and longest between two tries
WRITE_BYTES = 1 << 20
MIB = 1024 * 1024


class Pace(Struct, frozen=True, kw_only=True):
    """How long one may take: so many seconds, and one more for so many bytes that have come. It ends what hangs, drips
    or is never there, and lets a large file take its time."""

    patience_seconds: float = 600.0
    bytes_a_second: float = 100_000.0

    def seconds_for(self, size_bytes: int) -> float:
        return self.patience_seconds + size_bytes / self.bytes_a_second


class Fetched(Struct, frozen=True, kw_only=True):
    """file: whole. cached: nothing was fetched for it."""

    file: Path
    size_bytes: int
    sha256: str
    cached: bool = False


class InputFetcher:
    def __init__(self, web: Web, exchange: FileExchange, files: InputFiles, pace: Pace) -> None:
        self._web, self._exchange, self._files, self._pace = web, exchange, files, pace

    async def fetch(self, wanted: Input, peer_id: str, ref_id: str, into: Path, most_bytes: int) -> Fetched:
        """peer_id: who asked for it, and has it where it is a file. ref_id: its name there. Safe to repeat: goes on
        with what is there. Raises InputRefused (not there, another digest, too large: the requester's fault),
        InputUnavailable (it did not come in time), DiskTrouble and the OSError of a disk (ours)."""
        source = wanted.source(peer_id)
        if (found := await self._here(wanted, source, into)) is not None:
            check_size(found.size_bytes, most_bytes)
            return found
        if wanted.is_file:
            await self._fetch_from_peer(wanted, peer_id, ref_id, into)
        else:
            await self._fetch_from_web(wanted, into, most_bytes)
        found = await _measured(into)
        if wanted.sha256:
            await long_work(self._files.cache, source, wanted.sha256, into)
        return found

    async def _here(self, wanted: Input, source: str, into: Path) -> Fetched | None:
        """What an earlier try left whole, or the cache has."""
        if not await long_work(self._files.take, source, wanted.sha256, into):
            return None
        found = await _measured(into)
        if wanted.sha256 in ("", found.sha256):
            return Fetched(file=into, size_bytes=found.size_bytes, sha256=found.sha256, cached=bool(wanted.sha256))
        log.warning("a cached input is damaged and fetched anew")
        await asyncio.to_thread(self._files.drop, source, wanted.sha256, into)
        return None

    # --- from a peer ----------------------------------------------------------------------------------
    async def _fetch_from_peer(self, wanted: Input, peer_id: str, ref_id: str, into: Path) -> None:
        ref = FileRef(
            kind=KIND, id=ref_id, name=wanted.place[:1024], size_bytes=wanted.size_bytes, sha256=wanted.sha256
        )
        limit = self._pace.seconds_for(wanted.size_bytes)
        try:
            await self._exchange.fetch(peer_id, ref, into, limit_seconds=limit)
        except TimeoutError as error:
            raise InputUnavailable(f"it did not come from the requester within {limit:.0f} s") from error
        except (DiskTrouble, LogUnavailable):
            raise
        except Unavailable as error:
            raise InputUnavailable(f"it could not be fetched from the requester: {error}") from error
        except Conflict as error:
            raise InputRefused(f"it changed since the job was quoted: {error}") from error
        except DmsError as error:
            raise InputRefused(f"it can't be fetched from the requester: {error}") from error

    # --- from the web ---------------------------------------------------------------------------------
    async def _fetch_from_web(self, wanted: Input, into: Path, most_bytes: int) -> None:
        coming = _Coming(self._files, wanted, into, most_bytes)
        clock = asyncio.get_running_loop().time
        began = clock()
        async with await PartFile.open(into, most_bytes) as part:
            try:
                async with asyncio.timeout(None) as limit:

                    def gained() -> None:
                        limit.reschedule(began + self._pace.seconds_for(part.size))

                    gained()
                    while not await self._is_right(wanted, part, await self._complete(coming, part, gained)):
                        coming.begin_anew()
            except TimeoutError as error:
                why = coming.trouble or f"only {part.size} bytes of it came"
                raise InputUnavailable(f"it did not come within {clock() - began:.0f} s: {why}") from error
            await part.publish()

    async def _complete(self, coming: _Coming, part: PartFile, gained: Callable[[], None]) -> bool:
        """Until the part is whole; over cuts, with pauses. Answers whether some of it is of another connection."""
        backoff, resumed = Backoff(*PAUSES_SECONDS), part.size > 0
        while True:
            before = part.size
            try:
                async with self._web.open(coming.url, coming.after(part), coming.validator) as answer:
                    resumed = resumed and answer.after > 0
                    await coming.take(answer, part, gained)
                return resumed
            except WebTrouble as error:
                coming.trouble = str(error)
                if part.size > before:
                    backoff.reset()
                pause = max(backoff.spread(), error.retry_after_seconds)
                log.info("an input does not come; it is tried again in %.1f s", pause)  # its URL tells of a person
            resumed = part.size > 0
            await asyncio.sleep(pause)

    async def _is_right(self, wanted: Input, part: PartFile, resumed: bool) -> bool:
        """False: what went on from an earlier connection is to be fetched anew."""
        if wanted.sha256 in ("", part.sha256):
            return True
        found = part.sha256
        await asyncio.to_thread(part.clear)
        if resumed:
            return False
        await asyncio.to_thread(part.discard)
        raise InputRefused(f"it has SHA-256 {found}, not {wanted.sha256}")


class _Coming:
    """What is known of a file while it comes."""

    def __init__(self, files: InputFiles, wanted: Input, into: Path, most_bytes: int) -> None:
        self.url, self.trouble = wanted.url, ""
        self._validator = files.validator(into)
        self._files, self._into, self._most = files, into, most_bytes
        self._has_digest = bool(wanted.sha256)

    def begin_anew(self) -> None:
        self._validator = ""

    def after(self, part: PartFile) -> int:
        """Where to go on: only where something tells whether the rest is of the same file."""
        return part.size if self._validator or self._has_digest else 0

    @property
    def validator(self) -> str:
        return self._validator

    async def take(self, answer: WebFile, part: PartFile, gained: Callable[[], None]) -> None:
        """Raises WebTrouble; what came before it is kept."""
        goes_on = answer.after == part.size > 0
        if answer.after != part.size:
            await asyncio.to_thread(part.clear)
        check_size(answer.total_bytes or 0, self._most)
        part.check_room(answer.total_bytes or 0)
        # The rest of a file is of the one that was asked for, though its server says so only with the whole.
        validator = answer.validator or (self._validator if goes_on else "")
        if validator != self._validator:
            self._validator = validator
            await asyncio.to_thread(self._files.keep_validator, self._into, self._validator)
        waiting = bytearray()
        try:
            async with aclosing(answer.chunks()) as chunks:
                async for chunk in chunks:
                    waiting += chunk
                    check_size(part.size + len(waiting), self._most)
                    if len(waiting) >= WRITE_BYTES:
                        await self._append(part, waiting, gained)
                        waiting = bytearray()
        except WebTrouble:
            await self._append(part, waiting, gained)
            raise
        await self._append(part, waiting, gained)

    async def _append(self, part: PartFile, data: bytearray, gained: Callable[[], None]) -> None:
        part.check_room(part.size + len(data))
        await part.append(data)
        gained()


def check_size(size_bytes: int, most_bytes: int) -> None:
    """Raises InputRefused."""
    if size_bytes > most_bytes:
        raise InputRefused(
            f"it has more than the {most_bytes / MIB:.0f} MiB that are left for it: of what this provider fetches for "
            "one job (job.input_max_mb), or of the job's workspace, which is half of its memory"
        )


async def _measured(file: Path) -> Fetched:
    sha256 = await digest_of(file)
    if not sha256:
        raise InputUnavailable("it is not there any more")
    return Fetched(file=file, size_bytes=(await asyncio.to_thread(file.stat)).st_size, sha256=sha256)
