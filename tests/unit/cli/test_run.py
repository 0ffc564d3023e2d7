"""What `nunet run` ends with: systemd restarts it, but for what no restart mends."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dms.cli.daemon import _code_of
from dms.errors import AddressUnavailable, AlreadyRunning, ConfigError, DmsError, Exit, LogCorrupt, Unavailable

SERVICE = (Path(__file__).parents[3] / "debian" / "nunet-dms.service").read_text()
UNIT = dict(re.findall(r"^(\w+)=(.*)$", SERVICE, re.MULTILINE))
FINAL = {int(code) for code in UNIT["RestartPreventExitStatus"].split()}


@pytest.mark.parametrize("error", [ConfigError("x"), LogCorrupt("x")])
def test_the_service_is_not_restarted_after_what_no_restart_mends(error: DmsError) -> None:
    assert _code_of(error) in FINAL


@pytest.mark.parametrize("error", [AddressUnavailable("x"), AlreadyRunning("x"), Unavailable("x"), DmsError("x")])
def test_the_service_is_restarted_after_what_may_pass(error: DmsError) -> None:
    assert _code_of(error) not in FINAL | {Exit.OK}


@pytest.mark.parametrize(
    "settings",
    ["{", '{"rest": {"port": "many"}}', '{"funding": {"check": "ledger"}}', '{"eventlog": {"url": "x://y"}}'],
)
@pytest.mark.slow
def test_a_configuration_that_cannot_be_used_ends_it_for_good(tmp_path: Path, settings: str) -> None:
    file = tmp_path / "dms_config.json"
    file.write_text(settings)
    folders = [f"--data-dir={tmp_path / 'data'}", f"--work-dir={tmp_path / 'work'}", "--no-mdns"]
    command = [sys.executable, "-m", "dms.cli", "run", "--config", str(file), *folders]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode in FINAL, done.stderr


def test_ten_starts_that_fail_are_enough() -> None:
    """The limit must be reached: a start that fails takes its time, and the next one waits."""
    minutes = int(UNIT["StartLimitIntervalSec"].removesuffix("min"))
    seconds_each = minutes * 60 / int(UNIT["StartLimitBurst"])
    assert seconds_each >= 30 + int(UNIT["RestartSec"])
    before = SERVICE.index("StartLimitIntervalSec"), SERVICE.index("StartLimitBurst")
    assert max(before) < SERVICE.index("[Service]")  # elsewhere systemd passes over them
