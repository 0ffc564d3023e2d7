"""What the README's scripts do: the quick install, a developer's set-up, two DMSes side by side."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import psutil
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ANOTHER_ROOT = """
set -eu
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
mount -t proc none /mnt/root/proc
mount --bind /dev /mnt/root/dev
mount -t tmpfs none /mnt/root/run
mkdir -p /mnt/root/run/lock "/mnt/root$FOLDER"
mount --bind "$FOLDER" "/mnt/root$FOLDER"
chroot /mnt/root dpkg --purge nunet-dms >/dev/null 2>&1 || true
exec chroot /mnt/root sh -c "$1"
"""


def package(
    folder: Path, *, name: str = "nunet-dms", version: str = "7.0.1", architecture: str = "all", python: str = ""
) -> Path:
    """A package with a command that only tells its version: dpkg and apt take it as they take the real one.
    python: that of the release that it is for."""
    tree = folder / f"{name}-{version}"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: nobody <n@example.com>\n"
        "Description: stands in for the real package\n"
        + (f"Depends: python3 (>= {python}~), python3 (<< {python}.99)\n" if python else "")
    )
    command = tree / "usr" / "bin" / "nunet"
    command.parent.mkdir(parents=True)
    command.write_text(f"#!/bin/sh\necho {version}\n")
    command.chmod(0o755)
    made = folder / f"{name}_{version}_{architecture}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, made], check=True, capture_output=True)
    return made


def in_another_root(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Runs a shell command as root in a throw-away copy of this machine's file system; `folder` is shared with it."""
    return subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ANOTHER_ROOT, "sh", command],
        env={**os.environ, "FOLDER": str(folder)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def checkout(folder: Path, *packages: Path) -> Path:
    """The scripts in a place of their own, with these packages in dist/."""
    shutil.copytree(ROOT / "ops", folder / "ops", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "dist").mkdir()
    for each in packages:
        shutil.copy(each, folder / "dist")
    return folder


# --- install -----------------------------------------------------------------------------------------
def test_the_newest_package_in_dist_is_installed(tmp_path: Path) -> None:
    arch = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
    made = [package(tmp_path, version=v, architecture=arch) for v in ("7.0.9", "7.0.10")]
    made.append(package(tmp_path, version="7.0.11", architecture=arch, python="3.0"))  # for another release
    top = checkout(tmp_path / "checkout", *made)
    done = in_another_root(tmp_path, f"sh '{top}/ops/install.sh' && nunet --version")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("7.0.10")
    assert "no systemd runs here" in done.stdout
    assert "nunet onboard" in done.stdout
    assert not Path("/usr/share/doc/nunet-dms").exists()  # nothing of it reached this machine


def test_a_named_package_is_installed_by_a_script_that_comes_through_a_pipe(tmp_path: Path) -> None:
    made = package(tmp_path)
    script = shutil.copy(ROOT / "ops" / "install.sh", tmp_path)
    done = in_another_root(
        tmp_path, f"cd '{tmp_path}' && cat '{script}' | sh -s -- --package '{made.name}' && nunet --version"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("7.0.1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--package", "not-there.deb"], "there is no file not-there.deb"),
        (["--package", "other_7.0.1_all.deb"], "is not a package of nunet-dms"),
        (["--package", "nunet-dms_7.0.1_s390x.deb"], "is for s390x; this machine is"),
        (["--package", "nunet-dms_7.0.2_all.deb"], "is for a release with Python 3.0; this one has 3"),
        (["--package", "text.deb"], "is not a package of nunet-dms"),
        (["--package"], "--package needs a file"),
        (["--package", "a", "--build"], "do not go together"),
        (["--force"], "unknown argument: --force"),
    ],
)
def test_what_can_not_be_installed_is_refused_with_a_sentence(
    tmp_path: Path, arguments: Sequence[str], said: str
) -> None:
    package(tmp_path, name="other")
    package(tmp_path, architecture="s390x")
    package(tmp_path, version="7.0.2", python="3.0")
    (tmp_path / "text.deb").write_text("no package\n")
    done = subprocess.run(
        ["sh", ROOT / "ops" / "install.sh", *arguments],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert said in done.stderr
    assert "installing" not in done.stdout


# --- a developer's set-up ----------------------------------------------------------------------------
def git(folder: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    person = {f"GIT_{who}_{what}": "t@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **person, "PATH": path or os.environ["PATH"]}
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_each_commit_runs_the_daily_check_and_is_refused_when_it_fails(tmp_path: Path) -> None:
    top = checkout(tmp_path / "checkout")
    git(top, "init", "--quiet")
    subprocess.run([top / "ops" / "dev-setup.sh", "--hook-only"], check=True, capture_output=True, timeout=120)
    for name, code in (("good", 0), ("bad", 1)):
        make = tmp_path / name / "make"
        make.parent.mkdir()
        make.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/{name}.log\nexit {code}\n')
        make.chmod(0o755)
    (top / "file").write_text("one")
    git(top, "add", "file")
    refused = git(top, "commit", "--quiet", "-m", "one", path=f"{tmp_path}/bad:{os.environ['PATH']}")
    assert refused.returncode != 0
    assert git(top, "log").returncode != 0  # there is no commit
    taken = git(top, "commit", "--quiet", "-m", "one", path=f"{tmp_path}/good:{os.environ['PATH']}")
    assert taken.returncode == 0, taken.stderr
    assert (tmp_path / "good.log").read_text().split()[-1] == "check"


def test_a_hook_of_somebody_elses_is_kept(tmp_path: Path) -> None:
    top = checkout(tmp_path / "checkout")
    git(top, "init", "--quiet")
    hook = top / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntrue\n")
    done = subprocess.run(
        [top / "ops" / "dev-setup.sh", "--hook-only"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "somebody else's" in done.stderr
    assert hook.read_text() == "#!/bin/sh\ntrue\n"


def test_a_developers_set_up_installs_the_package_and_stops_its_service(tmp_path: Path) -> None:
    made = package(tmp_path)
    top = checkout(tmp_path / "checkout")
    git(top, "init", "--quiet")
    done = in_another_root(tmp_path, f"'{top}/ops/dev-setup.sh' --package '{made}' && nunet --version")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("7.0.1")
    assert "there is no service to stop" in done.stdout
    assert os.access(top / ".git" / "hooks" / "pre-commit", os.X_OK)


# --- side by side ------------------------------------------------------------------------------------
def test_two_dmses_stay_side_by_side_each_knowing_the_other(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops.side_by_side"],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    started = [psutil.Process(int(pid)) for pid in re.findall(r"process (\d+)", done.stdout)]
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(started) == 2
        urls = dict.fromkeys(re.findall(r"(http://127\.0\.0\.1:\d+), peer (\w+)", done.stdout))
        assert len(urls) == 2
        for url, own in urls:
            known = set(httpx.get(f"{url}/api/v1/peers/dht", timeout=120).json())
            assert {peer for _, peer in urls} - {own} <= known
            assert httpx.get(f"{url}/api/v1/onboarding/status", timeout=120).json()["onboarded"]
        configs = re.findall(r"--config (\S+dms_config\.json)", done.stdout)
        assert len(configs) == 2
        assert all(Path(config).is_file() for config in configs)
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        psutil.wait_procs(started, timeout=120)
