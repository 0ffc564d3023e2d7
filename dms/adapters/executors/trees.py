"""Removing a job's folder, which a sweep and the job's own end may do at the same time."""

from __future__ import annotations

import shutil
from pathlib import Path


def remove_tree(folder: Path) -> None:
    """Raises OSError."""
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue  # somebody else was faster with this very entry
