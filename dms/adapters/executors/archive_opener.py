"""Opening an archive of a workspace for who looks into it: on the requester's disk, which others need as well."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from dms.adapters.executors.archive_writer import check_room
from dms.adapters.executors.workspace_archive import ArchiveReader, Entry, opened
from dms.application.files.file_parts import disk_trouble
from dms.application.ports.executor import ArchivedFile
from dms.disk import private


def open_archive(archive: Path, into: Path, max_bytes: int) -> list[ArchivedFile]:
    """Writes the content of all files, one behind the other, to `into`, which appears whole or not at all. Raises
    ArchiveRefused, ExecutionError; ExecutorUnavailable and DiskTrouble for want of disk."""
    part = into.with_name(f"{into.name}.part")
    try:
        with opened(archive, "archive") as file, disk_trouble(part):
            reader = ArchiveReader(file, max_bytes)
            with open(part, "wb", opener=private) as out:
                found = [_written(entry, reader, out, part) for entry in reader.entries() if not entry.folder]
            part.replace(into)
    finally:
        part.unlink(missing_ok=True)
    return sorted(found, key=lambda one: one.path)


def _written(entry: Entry, reader: ArchiveReader, out: BinaryIO, part: Path) -> ArchivedFile:
    offset, digest, left = out.tell(), hashlib.sha256(), entry.size
    for chunk in reader.chunks():
        check_room(part, left)  # others write meanwhile
        digest.update(chunk)
        out.write(chunk)
        left -= len(chunk)
    return ArchivedFile(
        path="/".join(entry.parts),
        mode=entry.mode,
        mtime=entry.mtime,
        offset=offset,
        size_bytes=entry.size,
        sha256=digest.hexdigest(),
    )
