"""`python -m ops.bench connections` on a small scale: what it opens is held, and who is honest is served meanwhile."""

from __future__ import annotations

from pathlib import Path

from ops.bench.connections import measure
from tests.fixtures.dms import Dms


async def test_many_connections_are_held_and_measured(tmp_path: Path) -> None:
    dms = Dms(tmp_path, settings={"job.executor": "process"})
    dms.start()
    try:
        await dms.ready()
        found = await measure(dms, idle=300, slow=50, requests=20)
    finally:
        dms.end()
    assert found.idle == 300
    assert found.slow > 0
    assert found.crowded.median > 0
