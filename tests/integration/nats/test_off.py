"""A DMS that is not told of NATS knows nothing of it."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_without_a_url_nothing_of_nats_is_imported() -> None:
    code = (
        "import sys, dms.bootstrap, dms.cli.main, dms.wiring.adapters; from dms.config import Settings; "
        "assert dms.wiring.adapters.build_relay(Settings(), None, 'peer') is None; "
        "sys.exit(any(name.split('.')[0] == 'nats' or name == 'dms.adapters.nats' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
