"""Where inputs lie on the compute provider, under the data folder. Each folder may be a link to another disk.

inputs/jobs/<job id>/<number>   whole and checked, until the container runs; beside it what is still on its way
inputs/cache/<key>              a second name, or a copy, of what was fetched, for jobs that ask for the same; oldest
                                use goes first
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dms.application.files.file_parts import disk_trouble
from dms.disk import make_folder, real_folder, share, write_file

log = logging.getLogger(__name__)


class InputFiles:
    """Calls block, none for long."""

    def __init__(self, data_dir: Path, cache_bytes: int) -> None:
        """cache_bytes: what may be kept for later jobs, all files together."""
        root = data_dir.resolve() / "inputs"
        self._jobs, self._cache, self._cache_bytes = root / "jobs", root / "cache", cache_bytes

    def make(self) -> None:
        """The folders, for us alone."""
        self._jobs, self._cache = real_folder(self._jobs), real_folder(self._cache)

    def place(self, job_id: str, number: int) -> Path:
        """Of that input; its folder is made. Raises DiskTrouble."""
        place = self._jobs / job_id / str(number)
        with disk_trouble(place):
            make_folder(place.parent)
        return place

    def forget(self, job_id: str) -> None:
        """What that job has no need of any more."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._jobs / job_id)

    def tidy(self, is_open: Callable[[str], bool]) -> None:
        """Takes away what is left of jobs that are over."""
        for folder in self._jobs.iterdir() if self._jobs.exists() else ():
            if not is_open(folder.name):
                try:
                    self.forget(folder.name)
                except OSError as error:
                    log.warning("%s is no longer needed, and can't be removed: %s", folder, error)

    # --- what a fetch goes on with after a crash ------------------------------------------------------
    def validator(self, into: Path) -> str:
        """Of the file whose part is there; empty when it is not known."""
        with suppress(OSError, UnicodeDecodeError):
            return _beside(into).read_text("utf-8")
        return ""

    def keep_validator(self, into: Path, validator: str) -> None:
        """Raises DiskTrouble."""
        with disk_trouble(into):
            write_file(_beside(into), validator.encode())

    # --- the cache ------------------------------------------------------------------------------------
    def take(self, source: str, sha256: str, into: Path) -> bool:
        """Whether it is there now, be it of an earlier try or of the cache; the caller checks its digest. source: who
        gives it: knowing a digest alone is no right to a file that somebody else fetched. sha256: empty for any."""
        if into.exists() or not sha256:
            return into.exists()
        cached = self._cache / _key(source, sha256)
        try:
            share(cached, into)
            os.utime(cached)
        except FileNotFoundError:
            return False
        except OSError as error:
            log.warning("a cached input can't be used, it is fetched: %s", error)
            return into.exists()
        return True

    def cache(self, source: str, sha256: str, file: Path) -> None:
        """As far as there is room, which those make that were not used for longest. No job fails for want of it."""
        try:
            if file.stat().st_size > self._cache_bytes:
                return
            cached = self._cache / _key(source, sha256)
            share(file, cached)
            os.utime(cached)
            self._shrink()
        except OSError as error:
            log.warning("an input is not kept for later jobs: %s", error)

    def drop(self, source: str, sha256: str, into: Path | None = None) -> bool:
        """What is in the cache, and at `into`, is not what it should be, or should not be there any more. Whether there
        was something."""
        paths = [path for path in (self._cache / _key(source, sha256), into) if path is not None and path.exists()]
        for path in paths:
            path.unlink(missing_ok=True)
        return bool(paths)

    def _shrink(self) -> None:
        found = [(path.stat(), path) for path in self._cache.iterdir() if path.is_file()]
        files = [(status.st_mtime_ns, status.st_size, path) for status, path in found]
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._cache_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def _key(source: str, sha256: str) -> str:
    return hashlib.sha256(f"{sha256}\n{source}".encode()).hexdigest()


def _beside(into: Path) -> Path:
    return into.with_name(f"{into.name}.validator")
