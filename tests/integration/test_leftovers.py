"""A run of the tests that was killed does not keep the next ones from deleting its folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.fixtures.leftovers import unmount_left_workspaces


def test_workspaces_of_a_run_that_is_over_are_unmounted_and_those_of_one_that_goes_on_stay(tmp_path: Path) -> None:
    over = subprocess.Popen([sys.executable, "-c", ""])
    over.wait(120)
    runs = {tmp_path / "pytest-of-x" / "pytest-1": over.pid, tmp_path / "pytest-of-x" / "pytest-2": os.getpid()}
    folders = []
    try:
        for run, process_id in runs.items():
            folders.append(run / "test" / "workspaces" / "job")
            folders[-1].mkdir(parents=True)
            (run / ".lock").write_text(str(process_id))
            subprocess.run(["mount", "-t", "tmpfs", "dms-workspace", folders[-1]], check=True, timeout=120)
        assert str(folders[0]) in unmount_left_workspaces()
        assert [folder.is_mount() for folder in folders] == [False, True]
    finally:
        for folder in folders:
            subprocess.run(["umount", "--lazy", "--quiet", folder], check=False, timeout=120)
