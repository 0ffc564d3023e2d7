"""A tiny daemon for all tests of the command `nunet`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.nunet import REQUEST
from tests.unit.cli.tiny_dms import TinyDms


@pytest.fixture
def tiny() -> Iterator[TinyDms]:
    with TinyDms().running() as server:
        yield server


@pytest.fixture
def request_file(tmp_path: Path) -> str:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(REQUEST))
    return str(path)
