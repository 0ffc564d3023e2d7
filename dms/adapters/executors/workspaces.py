"""The workspaces of containers: each a tmpfs of a fixed size that this host mounts and the engine binds. What an
image's VOLUME lines ask for has its place there too, so one bound holds for all that a job writes.

So the kernel bounds what a job can write there, it outlives the container, and it is read from here
without asking the engine (whose `get_archive` can freeze it). It is lost when the machine restarts; the
job's last checkpoint is not. Mounting needs root, and an engine that sees the same files as we do.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import socket
import stat
import struct
import threading
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path, PurePosixPath

from dms.adapters.executors.input_content import place_input, placed_inputs
from dms.adapters.executors.job_ids import is_job_id
from dms.adapters.executors.profile import WORKSPACE
from dms.adapters.executors.trees import remove_tree
from dms.adapters.executors.workspace_archive import Owner, unpack
from dms.application.ports.executor import InputFile
from dms.disk import append_to, make_folder
from dms.errors import ExecutionError, ExecutorUnavailable

logger = logging.getLogger(__name__)

INODES = 65_536
_ROOM_BYTES, _ROOM_FILES = 1_048_576, 16  # less than this is none
_NOSUID_NODEV = 2 | 4  # MS_NOSUID | MS_NODEV
_DETACH_NOFOLLOW = 2 | 8  # MNT_DETACH | UMOUNT_NOFOLLOW
_PEER = struct.Struct("3i")  # pid, uid, gid
_libc = ctypes.CDLL(None, use_errno=True)


class Workspaces:
    """<root>/<job id> is the tmpfs, ours alone; `workspace` in it is the job's, and so are the folders in `volumes`,
    one for each of the image's. Calls block."""

    def __init__(self, root: Path, socket_path: str) -> None:
        """socket_path: of the engine; empty when it is not on this host."""
        self._root = root
        self._socket_path = socket_path
        self._trouble: str | None = None
        self._trying = threading.Lock()  # jobs that begin at once would take each other's probe away
        self._strange = set[str]()  # names that were told

    def trouble(self) -> str:
        """Why there can be none here, or nothing. Tried once."""
        with self._trying:
            if self._trouble is None:
                self._trouble = self._try()
            return self._trouble

    def make(self, job_id: str, size_mb: int, archive: Path | None, max_bytes: int, owner: Owner) -> Path:
        """The job's folder, filled from the archive; one that is ready is left as it is. Raises
        ArchiveRefused, ExecutionError (it does not fit), ExecutorUnavailable."""
        folder = self._root / job_id
        try:
            make_folder(folder)
            if not os.path.ismount(folder):
                _mount(folder, size_mb)
            if not (folder / "ready").exists():
                self._fill(folder, archive, max_bytes, owner)
        except OSError as error:
            raise ExecutorUnavailable(f"no workspace at {folder}: {error.strerror or error}") from error
        return folder / "workspace"

    def find(self, job_id: str) -> Path | None:
        """The job's folder, if it is ready."""
        folder = self._root / job_id
        return folder / "workspace" if (folder / "ready").exists() else None

    def put(self, job_id: str, given: InputFile, owner: Owner, stopped: threading.Event) -> None:
        """See place_input. Of a job whose folder is ready."""
        folder = self._root / job_id
        place_input(folder / "workspace", folder / "incoming", folder / "inputs", given, owner, stopped)

    def inputs_in(self, job_id: str) -> Set[int]:
        return placed_inputs(self._root / job_id / "inputs")

    def is_here(self, job_id: str) -> bool:
        """Whether there is a folder of that job, ready or not."""
        return (self._root / job_id).exists()

    def begin_volumes(self, job_id: str, paths: Sequence[str]) -> dict[str, Path] | None:
        """Path in the container -> an empty folder for what the image holds there; None when they were settled."""
        folder = self._root / job_id
        if (folder / "settled").exists():
            return None
        begun = folder / "volumes"
        try:
            if begun.exists():  # it was cut
                shutil.rmtree(begun)
            begun.mkdir()
            folders = {path: begun / str(number) for number, path in enumerate(paths)}
            for each in folders.values():
                each.mkdir()
                each.chmod(0o1777)
        except OSError as error:
            raise ExecutorUnavailable(f"no volumes at {begun}: {error.strerror or error}") from error
        return folders

    def settle_volumes(
        self, job_id: str, filled: Mapping[str, Path], volumes: Sequence[str], owner: Owner | None
    ) -> None:
        """Gives what was copied to the owner (None: it stays the image's), and moves what lies below /workspace to its
        place there, where it is part of the checkpoint. filled: the outer before what lies in it."""
        folder = self._root / job_id
        try:
            for path, copied in filled.items():
                if owner is not None:
                    _give(copied, owner)
                if path == WORKSPACE:
                    copied.chmod(0o1777)
                if (inner := _inside(path)) is not None:
                    place = _real_folder(folder / "workspace", inner, owner)
                    shutil.rmtree(place)
                    copied.rename(place)
            for path in volumes:
                if path not in filled and (inner := _inside(path)) is not None:
                    _real_folder(folder / "workspace", inner, owner)
            (folder / "settled").touch()
        except OSError as error:
            raise ExecutorUnavailable(f"no volumes in {folder}: {error.strerror or error}") from error

    def volumes(self, job_id: str, paths: Sequence[str]) -> dict[str, Path]:
        """Path in the container -> the folder, once they were settled. paths: as they were begun."""
        folder = self._root / job_id
        return {
            path: folder / "volumes" / str(number) if (inner := _inside(path)) is None else folder / "workspace" / inner
            for number, path in enumerate(paths)
        }

    def is_full(self, job_id: str) -> bool:
        found = os.statvfs(self._root / job_id)
        return found.f_bavail * found.f_frsize < _ROOM_BYTES or found.f_favail < _ROOM_FILES

    def remove(self, job_id: str) -> None:
        folder = self._root / job_id
        try:
            _unmount_all(folder)
            remove_tree(folder)
        except OSError as error:
            raise ExecutorUnavailable(f"the workspace {folder} can't be removed: {error.strerror}") from error

    def jobs(self) -> Sequence[str]:
        with suppress(FileNotFoundError, NotADirectoryError):
            found = [child for child in self._root.iterdir() if not child.name.startswith(".")]
            ours = sorted(child.name for child in found if is_job_id(child.name) and child.is_dir())
            self._tell_strange({child.name for child in found} - set(ours))
            return ours
        return []

    def _tell_strange(self, names: set[str]) -> None:
        if names - self._strange:
            logger.warning("in %s lies what is no workspace of a job, and stays: %s", self._root, sorted(names))
            self._strange |= names

    def _fill(self, folder: Path, archive: Path | None, max_bytes: int, owner: Owner) -> None:
        for rest in folder.iterdir():  # of a filling that was cut
            shutil.rmtree(rest)
        workspace = folder / "workspace"
        workspace.mkdir()
        workspace.chmod(0o1777)
        if archive is not None:
            unpack(archive, workspace, max_bytes, owner)
        append_to(folder / "ready").close()

    def _try(self) -> str:
        if not self._socket_path:
            return "the container engine is on another host"
        probe = self._root / ".probe"
        try:
            make_folder(probe)
            _unmount_all(probe)  # of a DMS that was killed right here
            _mount(probe, 1)
            try:
                seen = Path(f"/proc/{_engine_pid(self._socket_path)}/root{probe.resolve()}").stat()
                if (seen.st_dev, seen.st_ino) != (probe.stat().st_dev, probe.stat().st_ino):
                    return "the container engine does not see what the DMS mounts"
            finally:
                _unmount(probe)
                probe.rmdir()
        except OSError as error:
            return f"a tmpfs can't be mounted for it ({error.strerror or error}); the DMS needs root's rights for that"
        return ""


def _inside(path: str) -> str | None:
    """Where it lies in the workspace; None when it does not."""
    if path == WORKSPACE:
        return ""
    return path.removeprefix(WORKSPACE + "/") if path.startswith(WORKSPACE + "/") else None


def _real_folder(root: Path, inner: str, owner: Owner | None) -> Path:
    """Below root, made where it is missing. Raises ExecutionError for a link or a file on the way: the engine would
    follow it, on this host. Nothing can put one there until the container was started."""
    at = root
    for part in PurePosixPath(inner).parts:
        at /= part
        if at.is_symlink() or (at.exists() and not at.is_dir()):
            raise link_or_file(inner)
        if not at.exists():
            at.mkdir()
            at.chmod(0o1777)
            if owner is not None:
                os.chown(at, owner.uid, owner.gid)
    return at


def link_or_file(inner: str) -> ExecutionError:
    return ExecutionError(f"the workspace has a link or a file at {inner!r}, where the image has a VOLUME")


def _give(folder: Path, owner: Owner) -> None:
    """No link is followed. Whoever owns a folder may write in it, whatever its mode in the image was."""
    for _, folders, names, at in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *names):
            os.chown(name, owner.uid, owner.gid, dir_fd=at, follow_symlinks=False)
    os.chown(folder, owner.uid, owner.gid)
    folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IRWXU)


def _engine_pid(socket_path: str) -> int:
    """Of whoever opened the socket: the engine, or the init that opened it for the engine."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(5.0)
        door.connect(socket_path)
        pid, _, _ = _PEER.unpack(door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(pid)


def _mount(folder: Path, size_mb: int) -> None:
    options = f"size={size_mb}m,nr_inodes={INODES},mode=0700"
    if _libc.mount(b"dms-workspace", os.fsencode(folder), b"tmpfs", _NOSUID_NODEV, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _unmount_all(folder: Path) -> None:
    """One may lie upon another."""
    while os.path.ismount(folder):
        try:
            _unmount(folder)
        except OSError:
            if os.path.ismount(folder):  # else somebody was faster
                raise


def _unmount(folder: Path) -> None:
    if _libc.umount2(os.fsencode(folder), _DETACH_NOFOLLOW):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
