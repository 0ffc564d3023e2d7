"""What the README's scripts do: the quick install, a developer's set-up, two DMSes side by side."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
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


# As an upgrade of the distribution leaves one: its packages are those of another Python.
OTHER_PYTHON = (
    "python3 -m venv .venv; mv .venv/lib/python3.* .venv/lib/python3.0; "
    "cat requirements.lock pyproject.toml | sha256sum >.venv/stamp-all; ln -s /bin/true .venv/bin/nunet"
)


def package(
    folder: Path, *, name: str = "nunet-dms", version: str = "7.0.1", architecture: str = "all", python: str = "",
    files: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """A package with a command that only tells its version: dpkg and apt take it as they take the real one.
    python: that of the release that it is for. files: path: content; all of them may be run."""
    tree = folder / f"{name}-{version}"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: nobody <n@example.com>\n"
        "Description: stands in for the real package\n"
        + (f"Depends: python3 (>= {python}~), python3 (<< {python}.99)\n" if python else "")
    )
    for path, content in {"usr/bin/nunet": f"#!/bin/sh\necho {version}\n", **(files or {})}.items():
        file = tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(0o755)
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


SUDO = "int main(int n, char **words) { setgid(0); setuid(0); return execvp(words[1], words + 1); }"
SET_UP = '#!/bin/sh\necho "set-up $1 by $(id -un)" >>/of-user/calls\n'
NUNET = '#!/bin/sh\necho "nunet $* by $(id -un)" >>/of-user/calls\n'
# As `nobody`, at a terminal, on a machine that seems to have systemd and has sudo.
BY_A_USER = """
set -e
cp -r "$FOLDER" /of-user && chmod -R a+rwX /of-user && mount -t devpts devpts /dev/pts && mkdir -p /run/systemd/system
printf '#!/bin/sh\necho running\n' >/usr/bin/systemctl
install -o root -m 4755 /of-user/sudo /usr/bin/sudo
printf "%b" "$ANSWERS" | script -qec "setpriv --reuid 65534 --regid 65534 --clear-groups \
    sh /of-user/checkout/ops/install.sh --build" /dev/null
cat /of-user/calls
"""


@pytest.mark.parametrize(
    ("answers", "wallet"), [("yy", ""), ("yny", "--cardano"), ("ynny", "--ethereum"), ("ynnn", ""), ("n", "")]
)
def test_a_user_with_sudo_onboards_and_keeps_the_checkout_and_gets_no_wallet_unasked(
    tmp_path: Path, answers: str, wallet: str
) -> None:
    made = package(tmp_path, files={"usr/bin/nunet": NUNET})
    top = checkout(tmp_path / "checkout")
    (top / "ops" / "setup.sh").write_text(SET_UP)
    (top / "ops" / "build-deb.sh").write_text(f"#!/bin/sh\ncp ../{made.name} dist/ && echo dist/{made.name}\n")
    compile_it = ["gcc", "-w", "-static", "-x", "c", "-", "-o", str(tmp_path / "sudo")]
    subprocess.run(compile_it, input=SUDO, text=True, check=True, timeout=120)
    (tmp_path / "calls").touch()
    typed = "".join(f"{each}\\n" for each in answers)
    done = in_another_root(tmp_path, f"ANSWERS='{typed}'; {BY_A_USER}")
    assert done.returncode == 0, done.stdout + done.stderr
    calls = [line for line in done.stdout.splitlines() if line.startswith(("set-up", "nunet ")) and " by " in line]
    assert calls[:2] == ["set-up deb-packages by root", "set-up deb by nobody"]
    wallets = [line for line in calls if line.startswith("nunet wallet")]
    assert [line.split()[3] for line in wallets] == ([wallet] if wallet else [])
    assert ("nunet onboard --nunet-channel nunet-test by root" in calls) is answers.startswith("y")
    assert "sudo adduser nobody nunet" in done.stdout


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


def with_users(folder: Path, version: str) -> Path:
    """With the users and groups of the real package, and what debhelper makes of them."""
    debian = ROOT / "debian"
    made = 'if [ "$1" = configure ]; then systemd-sysusers nunet-dms.conf; fi\n'  # of dh_installsysusers
    script = (debian / "nunet-dms.postinst").read_text().replace("#DEBHELPER#", made)
    users = (debian / "nunet-dms.sysusers").read_text()
    settings = {"DEBIAN/conffiles": "/etc/nunet/dms_config.json\n", "etc/nunet/dms_config.json": "{}\n"}
    files = {"DEBIAN/postinst": script, "usr/lib/sysusers.d/nunet-dms.conf": users, **settings}
    return package(folder, version=version, files=files)


def test_who_took_the_service_out_of_docker_finds_it_so_after_an_upgrade(tmp_path: Path) -> None:
    old, new = with_users(tmp_path, "7.0.1"), with_users(tmp_path, "7.0.2")
    groups = "id -nG nunet"
    delete = "gpasswd --delete nunet docker >/dev/null && gpasswd --delete nunet nunet-docker >/dev/null"
    remove, purge = "dpkg --remove nunet-dms >/dev/null", "dpkg --purge nunet-dms >/dev/null"
    done = in_another_root(
        tmp_path,
        "set -e; for group in docker nunet-docker; do gpasswd --delete nunet $group >/dev/null 2>&1 || true; done; "
        f"install() {{ dpkg --install $1 >/dev/null; {groups}; }}; "
        f"install '{old}'; {delete}; install '{new}'; {remove}; install '{new}'; {purge}; install '{new}'",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, upgraded, back, anew = (set(line.split()) for line in done.stdout.splitlines())
    assert {"docker", "nunet-docker"} <= first & anew
    assert not {"docker", "nunet-docker"} & (upgraded | back)


# --- backup and restore ------------------------------------------------------------------------------
def test_a_backup_by_the_document_is_private_and_what_is_restored_is_the_services(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "install.md").read_text().partition("## Backup and restore\n")[2]
    backup, restore = re.findall(r"^```\n(.*?)^```", text.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
    users = ROOT / "debian" / "nunet-dms.sysusers"
    done = in_another_root(
        tmp_path,
        f"set -e; cd '{tmp_path}'; umask 022; systemctl() {{ :; }}\n"
        f"systemd-sysusers - <<'END'\n{users.read_text()}END\n"
        "install -d -o nunet -g nunet -m 700 /var/lib/nunet\n"
        "install -o nunet -g nunet -m 600 /dev/null /var/lib/nunet/node.key\n"
        f"{backup}\nchown root /var/lib/nunet/node.key\n{restore}\n"
        "stat -c %a nunet-backup.tar.gz; stat -c %U:%G:%a /var/lib/nunet /var/lib/nunet/node.key",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["600", "nunet:nunet:700", "nunet:nunet:600"]


# --- set-up ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("broken", ["python3 -m venv --without-pip .venv", OTHER_PYTHON])
def test_an_environment_that_can_not_be_used_is_made_anew(tmp_path: Path, broken: str) -> None:
    top = checkout(tmp_path / "checkout")
    for name in ("requirements.lock", "requirements-run.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, top)
    subprocess.run(broken, shell=True, cwd=top, check=True, timeout=120)
    no_index = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": "/dev/null"}
    done = subprocess.run(
        ["bash", top / "ops" / "setup.sh", "venv"],
        env={**os.environ, **no_index}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert "making .venv with Python" in done.stdout, done.stdout + done.stderr
    subprocess.run([top / ".venv" / "bin" / "python", "-m", "pip", "--version"], check=True, timeout=120)
    assert not (top / ".venv" / "lib" / "python3.0").exists()


@pytest.mark.parametrize(("name", "ends"), [("dockerd", True), ("another", False)])
def test_only_the_docker_daemon_of_the_set_up_is_stopped(tmp_path: Path, name: str, ends: bool) -> None:
    top = checkout(tmp_path / "checkout")
    program = shutil.copy(shutil.which("sleep") or "", tmp_path / name)
    done = in_another_root(
        tmp_path,
        f"'{program}' 300 & echo $! >/run/nunet-dms-dockerd.pid; bash '{top}/ops/setup.sh' stop-docker; "
        f"if {'wait $!; [ $? -eq 143 ]' if ends else 'kill $!'}; then echo as wished; fi; "
        "[ -e /run/nunet-dms-dockerd.pid ] && echo kept",
    )
    assert "as wished" in done.stdout, done.stdout + done.stderr
    assert ("stopping the Docker daemon" in done.stdout) is ends
    assert ("kept" in done.stdout) is ends  # dockerd removes its own


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
