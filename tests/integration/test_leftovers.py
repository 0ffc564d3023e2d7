"""A run of the tests that was killed does not keep the next ones from deleting its folder, and no daemon of a test
leaves anything in the engine."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from secrets import token_hex

import pytest
from docker import APIClient

from dms.adapters.executors.profile import LABEL_GATEWAY, LABEL_GATEWAY_NODE, LABEL_NODE
from tests.fixtures.images import SHELL_IMAGE
from tests.fixtures.leftovers import remove_again, remove_of_node, unmount_left_workspaces


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


@pytest.mark.docker
@pytest.mark.usefixtures("demo_images")
def test_of_a_daemon_that_is_gone_nothing_stays_in_the_engine_and_of_others_everything() -> None:
    gone, other = f"gone-{token_hex(8)}", f"other-{token_hex(8)}"
    with closing(APIClient(version="auto", timeout=120)) as api:

        def left(node: str) -> tuple[int, int]:
            ours = {"label": f"{LABEL_NODE}={node}"}
            return len(api.containers(all=True, filters=ours)), len(api.volumes(filters=ours)["Volumes"] or [])

        try:
            for node in (gone, other):
                made = api.create_container(SHELL_IMAGE, ["sleep", "600"], labels={LABEL_NODE: node})
                api.start(made["Id"])
                api.create_volume(node, labels={LABEL_NODE: node})
            remove_of_node(gone)
            assert (left(gone), left(other)) == ((0, 0), (1, 1))
        finally:
            for node in (gone, other):
                remove_of_node(node)


@pytest.mark.docker
def test_a_network_that_the_engine_makes_after_its_daemon_was_killed_is_gone_at_the_end_of_the_run() -> None:
    gone, other = f"gone-{token_hex(8)}", f"other-{token_hex(8)}"
    with closing(APIClient(version="auto", timeout=120)) as api:
        remove_of_node(gone)
        for node in (gone, other):  # late, by a call whose caller is dead
            api.create_network(f"dms-test-{node}", labels=labels_of(node))
        try:
            remove_again()
            left = [len(api.networks(filters={"label": f"{LABEL_GATEWAY_NODE}={node}"})) for node in (gone, other)]
            assert left == [0, 1]
        finally:
            remove_of_node(other)


def labels_of(node: str) -> dict[str, str]:
    return {LABEL_GATEWAY: "network-trial-test", LABEL_GATEWAY_NODE: node}
