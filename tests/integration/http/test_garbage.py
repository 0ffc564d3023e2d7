"""A task that ended with an error is destroyed while Python parses something, and the parser must not fail."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dms.adapters.http.garbage import no_collection
from tests.integration.http.node import running_node

LONG = "\n".join(f"def f{n}(a, b): return [a + {n}, {{b: f(a)(b)}}]" for n in range(200))


@contextmanager
def destroyed_tasks(every: int = 50) -> Iterator[list[str]]:
    """Each collection parses, as the logger does for the traceback of a destroyed task; collections are frequent."""
    done: list[str] = []

    def parse(phase: str, _: object) -> None:
        if phase == "start":
            ast.parse("a + b")
            done.append(phase)

    before = gc.get_threshold()
    gc.callbacks.append(parse)
    gc.set_threshold(every, 10_000, 10_000)
    try:
        yield done
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(parse)


def test_nothing_is_collected_until_the_outermost_is_at_its_end() -> None:
    with destroyed_tasks() as parsed:
        with no_collection():
            parsed.clear()
            with no_collection():
                ast.parse(LONG)
            ast.parse(LONG)
            assert not parsed
        assert gc.isenabled()
        gc.collect()
    assert parsed


async def test_a_node_starts(tmp_path: Path) -> None:
    with destroyed_tasks(every=1000) as parsed:
        async with running_node(tmp_path) as node:
            started = node.port
    assert started
    assert parsed
