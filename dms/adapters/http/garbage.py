"""When Python must not collect garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """Leaves garbage where it is for the while of a call into Python's parser.

    A collection runs what destroyed objects say, and the logger's answer to a destroyed task is a traceback, which
    Python 3.11 and 3.12 format by means of `ast.parse`. Within another `ast.parse` that ends the outer one with
    "SystemError: AST constructor recursion depth mismatch". Source: github.com/python/cpython/issues/106905.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
