"""Removing a job's folder, which a sweep and the job's own end may do at the same time."""

from __future__ import annotations

import errno
import shutil
import time
from pathlib import Path

_PATIENCE_SECONDS = 5.0  # with somebody who writes into the folder while it is removed, as a job that just ends
_PAUSE_SECONDS = 0.02


def remove_tree(folder: Path) -> None:
    """Raises OSError."""
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue  # somebody else was faster with this very entry
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or time.monotonic() >= give_up_at:
                raise
            time.sleep(_PAUSE_SECONDS)
