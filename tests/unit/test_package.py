"""What the Debian package is made from fits together; `make deb` builds, installs, runs, upgrades and purges it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dms.config import load

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEBIAN = ROOT / "debian"


def test_package_and_program_have_one_version() -> None:
    newest = re.match(r"nunet-dms \(([^)]+)\)", (DEBIAN / "changelog").read_text())
    assert newest is not None
    assert newest[1] == PROJECT["version"]


def test_the_settings_of_the_package_are_read_without_a_warning() -> None:
    found = load({}, {}, DEBIAN / "conf" / "dms_config.json", root=False)
    assert found.warnings == []
    assert found.settings.general.data_dir == Path("/var/lib/nunet") == found.settings.general.work_dir
    assert found.settings.rest.addr == "127.0.0.1"


def test_the_package_has_what_runs_and_nothing_that_only_tests_need() -> None:
    kept = (ROOT / "requirements-run.lock").read_text()
    names = {canonicalize_name(name) for name in re.findall(r"^([A-Za-z0-9_.-]+)==", kept, re.MULTILINE)}
    for text in PROJECT["dependencies"]:
        assert canonicalize_name(Requirement(text).name) in names
    assert not names & {"pytest", "mypy", "ruff", "hypothesis", "freezegun"}
    assert kept.count("--hash=sha256:") >= len(names)


def test_the_documents_that_the_package_names_are_in_it() -> None:
    named = {name for file in DEBIAN.glob("nunet-dms.*") for name in re.findall(r"docs/\S+\.md", file.read_text())}
    assert named
    assert all((ROOT / name).is_file() for name in named)
    assert "docs" in (DEBIAN / "nunet-dms.docs").read_text().split()


def test_the_own_engine_is_off_and_the_service_can_be_pointed_to_it() -> None:
    assert "--name=nunet-docker --no-enable --no-start" in (DEBIAN / "rules").read_text()
    unit = (DEBIAN / "nunet-dms.nunet-docker.service").read_text()
    pointer = (DEBIAN / "conf" / "own-engine.conf").read_text()
    (socket,) = re.findall(r"^Environment=DOCKER_HOST=(\S+)$", pointer, re.MULTILINE)
    assert f"--host={socket}" in unit
    (group,) = re.findall(r"--group=(\S+)", unit)
    assert f"gpasswd --add nunet {group} " in (DEBIAN / "nunet-dms.postinst").read_text()
    assert {"--userns-remap=default", "--no-new-privileges", "--live-restore", "--icc=false"} <= set(unit.split())


ENGINE_ROOT = """
set -eu
mount -t tmpfs none /run
mkdir /run/containerd
if [ "$1" = containerd ]; then
    "$2" -c "import socket as s; s.socket(s.AF_UNIX).bind('/run/containerd/containerd.sock')"
fi
PATH=$3 exec "$4" --debug
"""


@pytest.mark.parametrize(
    ("has", "code", "says"),
    [
        ({"dockerd"}, 0, "--debug"),
        ({"dockerd", "containerd"}, 0, "--containerd=/run/containerd/containerd.sock"),
        ({"containerd"}, 127, "dockerd is not installed"),
    ],
)
def test_the_own_engine_is_found_wherever_it_is_and_lives_in_the_machines_containerd(
    tmp_path: Path, has: set[str], code: int, says: str
) -> None:
    if "dockerd" in has:
        (tmp_path / "dockerd").write_text('#!/bin/sh\necho "$@"\n')
        (tmp_path / "dockerd").chmod(0o755)
    which, begin = "containerd" if "containerd" in has else "", DEBIAN / "conf" / "own-engine"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", ENGINE_ROOT, "sh", which, sys.executable, tmp_path, begin],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr
    unit = (DEBIAN / "nunet-dms.nunet-docker.service").read_text()
    assert "ExecStart=/usr/lib/nunet-dms/own-engine " in unit
    assert "RestartPreventExitStatus=127\n" in unit


def test_the_own_engine_reads_nothing_of_another_engine() -> None:
    unit = (DEBIAN / "nunet-dms.nunet-docker.service").read_text()
    (config,) = re.findall(r"--config-file=(\S+)", unit)
    installed = dict(line.split() for line in (DEBIAN / "nunet-dms.install").read_text().splitlines())
    assert config == "/" + installed["debian/conf/docker.json"] + "/docker.json"
    assert json.loads((DEBIAN / "conf" / "docker.json").read_text()) == {}
    assert {"Wants", "After"} <= set(re.findall(r"^(\w+)=.*containerd\.service", unit, re.MULTILINE))


def test_the_service_is_what_the_daemon_expects() -> None:
    unit = dict(re.findall(r"^(\w+)=(.*)$", (DEBIAN / "nunet-dms.service").read_text(), re.MULTILINE))
    assert unit["Type"] == "notify"
    assert int(unit["WatchdogSec"].removesuffix("s")) >= 10
    assert unit["User"] == "nunet"
    assert unit["KillMode"] == "process"  # jobs outlive the daemon
    assert unit["LimitCORE"] == "0"  # no file with keys in it is left of a crash
    assert unit["ExecStart"].endswith("--config /etc/nunet/dms_config.json")


def test_the_service_may_do_little_enough() -> None:
    """Score 2.0 of 10, as systemd counts it from the unit alone."""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager"]
    done = subprocess.run(
        [*command, str(DEBIAN / "nunet-dms.service")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert "Overall exposure level for nunet-dms.service" in done.stdout
