"""Whether the log's files are still those that were opened. SQLite does not notice: it writes on into a file that has
no name any more, and all of that is gone at the next start."""

from __future__ import annotations

from pathlib import Path

from dms.database import SUFFIXES, beside, real_path
from dms.locked_files import file_id


class FilesInUse:
    """Of a database that this process has open: it and what SQLite keeps beside it."""

    def __init__(self, database: Path) -> None:
        """After the first read, when all of them are there. Raises OSError."""
        real = real_path(database)
        self._database, self._smallest = database, 0
        paths = (database, *(beside(real, suffix) for suffix in SUFFIXES))
        self._files = [(path, file_id(path.stat())) for path in paths]

    def fault(self) -> str:
        """What happened to them; empty while all is well. Takes some microseconds."""
        for path, opened in self._files:
            try:
                found = path.stat()
            except OSError as error:
                return f"{path} was removed or renamed while this DMS uses it ({error.strerror})"
            if file_id(found) != opened:
                return f"{path} was replaced by another file while this DMS uses it"
            if path == self._database:  # which never shrinks: nothing vacuums it
                if found.st_size < self._smallest:
                    return f"{path} was cut from {self._smallest} to {found.st_size} bytes while this DMS uses it"
                self._smallest = found.st_size
        return ""
