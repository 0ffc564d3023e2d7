"""What an exit code says to the job's owner."""

from __future__ import annotations

import signal

import pytest

from dms.domain.deployment import Deployment
from dms.domain.provider_records import LAST_SIGNAL, exit_reason


@pytest.mark.parametrize("code", range(1, 256))
def test_only_signals_that_there_are_are_named(code: int) -> None:
    said = exit_reason(Deployment.ContainerExited(exit_code=code, oom_killed=False))
    assert said.startswith(f"finished with errors: exit code {code}")
    assert ("signal" in said) == (code - 128 in range(1, LAST_SIGNAL + 1))
    if "signal" in said:
        assert f"(killed by signal {code - 128}" in said
    assert ("memory" in said) == (code == 137)


def test_the_last_signal_is_linuxs() -> None:
    assert max(signal.valid_signals()) == LAST_SIGNAL
