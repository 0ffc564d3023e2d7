"""Where results lie, under the data folder. Each folder may be a link to another disk.

created_results/<job id>.tar.gz     of jobs that ran here, until the service provider has them
received_results/<job id>.tar.gz    of our own jobs, for as long as the setting says
opened_archives/<job id>.<digest>   content of a results' or checkpoint's archive that somebody looks into; made anew
                                    from the archive when it is not there
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dms.disk import real_folder

SUFFIX = ".tar.gz"
_DIGEST_CHARACTERS = 16


class ResultFiles:
    """Calls block; none takes long."""

    def __init__(self, data_dir: Path) -> None:
        root = data_dir.resolve()
        self._created, self._received = root / "created_results", root / "received_results"
        self._incoming, self._opened = self._received / ".incoming", root / "opened_archives"

    def make(self) -> None:
        """The folders, for us alone. What was opened before is forgotten."""
        self._created, self._received = real_folder(self._created), real_folder(self._received)
        self._incoming, self._opened = real_folder(self._received / ".incoming"), real_folder(self._opened)
        self.drop(*(path for path, _ in _children(self._opened)))

    def created(self, job_id: str) -> Path:
        return self._created / f"{job_id}{SUFFIX}"

    def received(self, job_id: str) -> Path:
        return self._received / f"{job_id}{SUFFIX}"

    def incoming(self, job_id: str) -> Path:
        """Results while they are fetched and checked."""
        return self._incoming / f"{job_id}{SUFFIX}"

    def opened(self, job_id: str, sha256: str) -> Path:
        """The content of that archive."""
        return self._opened / f"{job_id}.{sha256[:_DIGEST_CHARACTERS]}"

    def incoming_bytes(self, job_id: str) -> int:
        """How much of them is here while they are fetched, in the order of the places that they come by."""
        path = self.incoming(job_id)
        for each in (path.with_name(f"{path.name}.part"), path, self.received(job_id)):
            with suppress(OSError):
                return each.stat().st_size
        return 0

    def drop(self, *paths: Path) -> None:
        """With what is left of fetching or opening them."""
        for path in paths:
            for each in (path, path.with_name(f"{path.name}.part")):
                with suppress(OSError):  # the next tidying tries again
                    each.unlink(missing_ok=True)

    def drop_opened(self, job_id: str, but: str = "") -> None:
        """but: the digest of the archive whose content stays."""
        kept = self.opened(job_id, but).name if but else ""
        self.drop(*(path for path, _ in _children(self._opened) if _job_of(path) == job_id and path.name != kept))

    def drop_of(self, job_id: str) -> None:
        """All that is here of that job."""
        self.drop(self.created(job_id), self.received(job_id), self.incoming(job_id))
        self.drop_opened(job_id)

    def list_created(self) -> list[tuple[str, Path, float]]:
        """(job id, file, Unix seconds of its last change), in no order; also what is left of making one."""
        return [(_job_of(path), path, changed) for path, changed in _children(self._created)]

    def list_received(self) -> list[tuple[str, Path, float]]:
        return [(_job_of(path), path, changed) for path, changed in _children(self._received)]

    def list_incoming(self) -> list[tuple[str, Path, float]]:
        return [(_job_of(path), path, changed) for path, changed in _children(self._incoming)]

    def list_opened(self) -> list[tuple[str, Path, float]]:
        """The time: of its last use."""
        return [(_job_of(path), path, changed) for path, changed in _children(self._opened)]

    def opened_sizes(self) -> dict[Path, int]:
        """Bytes of each that is whole."""
        found = dict[Path, int]()
        for path, _ in _children(self._opened):
            with suppress(OSError):
                if path.suffix != ".part":
                    found[path] = path.stat().st_size
        return found


def _job_of(path: Path) -> str:
    return path.name.lstrip(".").partition(".")[0]


def _children(folder: Path) -> Iterator[tuple[Path, float]]:
    with suppress(OSError):
        for child in tuple(folder.iterdir()):
            with suppress(OSError):
                if child.is_file() and not child.is_symlink():
                    yield child, child.stat().st_mtime
