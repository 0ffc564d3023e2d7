"""What all tests of the executors may use."""

from __future__ import annotations

from tests.fixtures.docker_executors import api, executor

__all__ = ["api", "executor"]
