"""Where checkpoints lie, under the data folder. The names of the first two folders are the original's. Each may
be a link to another disk.

created_checkpoints/<job id>.tar.gz    of jobs that ran here, until the service provider has them
received_checkpoints/<job id>.tar.gz   of our own jobs; what a new job may go on from
resumes/out/<job id>.tar.gz            what our new job goes on from: a second name, or a copy, of a received one
resumes/in/<job id>.tar.gz             the same, fetched by the compute provider
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from dms.disk import passes, real_folder, share
from dms.domain.checkpoint import ResumeFrom
from dms.errors import InvalidInput, NotFound, Unavailable

SUFFIX = ".tar.gz"
LISTED = 10_000
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class StoredCheckpoint(Struct, frozen=True, kw_only=True):
    """last_modified: Unix seconds."""

    folder: str
    name: str
    last_modified: int
    size_bytes: int


class CheckpointFiles:
    """Calls block; none takes long but `take`."""

    def __init__(self, data_dir: Path) -> None:
        root = data_dir.resolve()
        self._created = root / "created_checkpoints"
        self._received = self._named = root / "received_checkpoints"
        self._incoming = self._received / ".incoming"
        self._out, self._in = root / "resumes" / "out", root / "resumes" / "in"

    def make(self) -> None:
        """The folders, for us alone."""
        self._created, self._received = real_folder(self._created), real_folder(self._received)
        self._incoming = real_folder(self._received / ".incoming")
        self._out, self._in = real_folder(self._out), real_folder(self._in)

    def created(self, job_id: str) -> Path:
        return self._created / f"{job_id}{SUFFIX}"

    def received(self, job_id: str) -> Path:
        return self._received / f"{job_id}{SUFFIX}"

    def incoming(self, job_id: str) -> Path:
        """A checkpoint while it is fetched and checked; not listed."""
        return self._incoming / f"{job_id}{SUFFIX}"

    def resume_out(self, job_id: str) -> Path:
        return self._out / f"{job_id}{SUFFIX}"

    def resume_in(self, job_id: str) -> Path:
        return self._in / f"{job_id}{SUFFIX}"

    def list_received(self) -> list[StoredCheckpoint]:
        """By name: what `find_received` takes. Raises Unavailable."""
        try:
            with os.scandir(self._received) as children:
                found = [
                    (child.name, child.stat(follow_symlinks=False))
                    for child in children
                    if not _problem(child.name, Path(child.path))
                ]
        except FileNotFoundError:
            return []  # of one that was replaced this moment, too; the next look has it
        except OSError as error:
            raise Unavailable(f"failed to read checkpoints directory: {error.strerror}") from error
        return [
            StoredCheckpoint(
                folder=str(self._received),
                name=name,
                last_modified=int(status.st_mtime),
                size_bytes=status.st_size,
            )
            for name, status in sorted(found)[:LISTED]
        ]

    def find_received(self, progress_file: str) -> Path:
        """A received archive by its name, or by its path. Raises InvalidInput for anything else: another
        folder, a link, somebody else's file; Unavailable."""
        name = progress_file.removeprefix(f"{self._received}/").removeprefix(f"{self._named}/")
        path = self._received / name
        problem = _problem(name, path)
        if problem:
            raise InvalidInput(
                f"progress_file {progress_file[:200]!r} {problem}: give the name of a checkpoint that "
                "GET /api/v1/run/checkpoints lists",
                [("/params/resume_job/progress_file", problem)],
            )
        return path

    @contextmanager
    def open_received(self, name: str) -> Iterator[int]:
        """A received archive by its name: a handle, which goes on reading it when it is replaced. Raises NotFound for
        anything else, Unavailable."""
        path = self._received / name
        if problem := _problem(name, path):
            raise NotFound(f"checkpoint {name[:200]!r} {problem}")
        with _readable(path):
            handle = os.open(path, _READ)
        try:
            yield handle
        finally:
            os.close(handle)

    def take(self, source: Path, job_id: str) -> ResumeFrom:
        """Keeps a received archive for a job that goes on from it, also when a newer one replaces it.
        Raises InvalidInput when it is gone, Unavailable."""
        target = self.resume_out(job_id)
        with _readable(source, "kept for the job"):
            share(source, target)  # before the log says that it is there
            size, sha256 = digest(target)
        return ResumeFrom(name=source.name, size_bytes=size, sha256=sha256)

    def described(self, source: Path) -> ResumeFrom:
        """A received archive as it is now. Raises InvalidInput when it is gone, Unavailable."""
        with _readable(source):
            size, sha256 = digest(source)
        return ResumeFrom(name=source.name, size_bytes=size, sha256=sha256)

    def drop(self, *paths: Path) -> None:
        """With what is left of fetching them."""
        for path in paths:
            for each in (path, path.with_name(f"{path.name}.part")):
                with suppress(OSError):  # the next tidying tries again
                    each.unlink(missing_ok=True)

    def list_created(self) -> list[tuple[str, Path, float]]:
        """(job id, file, Unix seconds of its last change), in no order; also what is left of making one."""
        return [(path.name.partition(".")[0], path, changed) for path, changed in _children(self._created)]

    def drop_resumes(self, is_open: Callable[[str], bool]) -> None:
        """Of jobs that are over."""
        for folder in (self._out, self._in, self._incoming):
            for path, _ in _children(folder):
                if not is_open(path.name.partition(".")[0]):
                    self.drop(path)


@contextmanager
def _readable(source: Path, done: str = "read") -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InvalidInput(f"checkpoint {source.name} is not there any more") from error
    except OSError as error:
        raise Unavailable(f"checkpoint {source.name} can't be {done}: {error.strerror}") from error


def digest(path: Path) -> tuple[int, str]:
    """(size, sha256 in hex) of a regular file."""
    handle = os.open(path, _READ)
    with os.fdopen(handle, "rb", buffering=0) as file:
        return os.fstat(handle).st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _problem(name: str, path: Path) -> str:
    """Raises Unavailable."""
    if not name or "/" in name or "\0" in name or name in (".", "..") or not name.endswith(SUFFIX):
        return f"is no *{SUFFIX} in the folder of received checkpoints"
    try:
        status = path.lstat()
    except OSError as error:
        if passes(error):
            raise Unavailable(f"checkpoint {name} can't be read: {error.strerror}") from error
        return "is not there"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_uid not in (os.geteuid(), 0):
        return "belongs to another user of this machine"
    return ""


def _children(folder: Path) -> Iterator[tuple[Path, float]]:
    with suppress(OSError), os.scandir(folder) as children:
        for child in children:
            with suppress(OSError):
                if child.is_file(follow_symlinks=False):
                    yield Path(child.path), child.stat(follow_symlinks=False).st_mtime
