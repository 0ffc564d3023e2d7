"""Folders of jobs are removed whatever happens in them meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dms.adapters.executors import trees
from dms.adapters.executors.trees import remove_tree


@contextmanager
def writing(folder: Path, files: int) -> Iterator[None]:
    """Somebody who makes files in it, as long as it is there."""
    begun = threading.Event()

    def write() -> None:
        with suppress(FileNotFoundError):
            for number in range(files):
                (folder / f"{number}").touch()
                begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait()
    yield
    writer.join()


def test_what_is_written_while_it_is_removed_goes_as_well(tmp_path: Path) -> None:
    for attempt in range(20):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with writing(folder, files=2_000):
            remove_tree(folder)
        assert not folder.exists()


def test_two_may_remove_it_at_once(tmp_path: Path) -> None:
    for attempt in range(20):
        folder = tmp_path / str(attempt)
        for number in range(50):
            (folder / str(number)).mkdir(parents=True)
        others = [threading.Thread(target=remove_tree, args=(folder,)) for _ in range(3)]
        for other in others:
            other.start()
        remove_tree(folder)
        for other in others:
            other.join()
        assert not folder.exists()


def test_one_that_is_filled_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.setattr(trees, "_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("shutil.rmtree", lambda path: Path(path).rmdir())
    (folder / "again").touch()
    with pytest.raises(OSError, match="not empty"):
        remove_tree(folder)
