"""Builds the image of the machine-learning demo, and finds its data set, without any registry of images.

    python -m ops.demo_ml.image

`dms-demo/ml:VERSION` has Debian's Python, the locked scikit-learn, and `train.py` as its entry point.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from docker import APIClient
from docker.errors import ImageNotFound

HERE = Path(__file__).parent
TRAIN, LOCK = HERE / "train.py", HERE / "requirements.lock"
DATA = HERE.parents[1] / ".venv" / "demo-ml"
DIGITS = DATA / "digits.csv.gz"
PACKAGES = "packages"
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
BUILD_SECONDS = 600
# One core is given to the job: more threads would only wait for each other.
CHANGES = [
    'ENTRYPOINT ["/usr/bin/python3", "/train.py"]',
    f"ENV PYTHONPATH=/{PACKAGES} OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1",
]


class CannotBuild(Exception):
    """The message says what is missing, or what did not work."""


def image_name() -> str:
    """A changed recipe makes another image."""
    recipe = hashlib.sha256(b"".join(path.read_bytes() for path in (TRAIN, LOCK, Path(__file__)))).hexdigest()
    return f"dms-demo/ml:{recipe[:12]}"


def build_image(base_url: str | None = None) -> str:
    """Its name; the data set is in DIGITS then. Quick when both are there. Raises CannotBuild,
    docker.errors.DockerException."""
    name = image_name()
    with APIClient(base_url=base_url, version="auto", timeout=BUILD_SECONDS) as api:
        if not (_is_there(api, name) and DIGITS.exists()):
            with tempfile.TemporaryDirectory(prefix="nunet-image-") as folder:
                root = _root_filesystem(Path(folder))
                repository, _, tag = name.rpartition(":")
                api.import_image_from_file(str(root), repository=repository, tag=tag, changes=CHANGES)
    return name


def _is_there(api: APIClient, name: str) -> bool:
    try:
        api.inspect_image(name)  # type: ignore[no-untyped-call]  # of types-docker
    except ImageNotFound:
        return False
    return True


def _root_filesystem(folder: Path) -> Path:
    """A tar archive, made in that folder."""
    root, packages = folder / "root.tar", folder / "packages"
    _make_debian(root)
    _install_packages(packages, _python_of(root))
    _keep_digits(packages)
    for tests in list(packages.rglob("tests")):
        shutil.rmtree(tests)
    with tarfile.open(root, "a") as tar:
        tar.add(packages, f"./{PACKAGES}", filter=_of_root)
        tar.add(TRAIN, "./train.py", filter=_of_root)
    return root


def _make_debian(target: Path) -> None:
    """With nothing but Python, from where this machine's apt gets its packages."""
    if shutil.which("mmdebstrap") is None:
        raise CannotBuild("mmdebstrap is missing: apt-get install mmdebstrap")
    release, sources = _apt_sources()
    # From Debian 13 on base-files has /lib64, without which nothing starts.
    command = ["mmdebstrap", "--quiet", "--variant=extract", "--include=base-files,python3,libstdc++6,dash"]
    command += ["--aptopt=APT::Install-Recommends false", *(f"--dpkgopt=path-exclude={each}" for each in LEFT_OUT)]
    _run([*command, release, str(target), *sources])


def _apt_sources() -> tuple[str, Sequence[str]]:
    """(the release, lines of a sources.list) of this machine's Debian or Ubuntu itself."""
    shown = "$(LABEL) $(CODENAME) deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    listed = _run(["apt-get", "indextargets", "--format", shown, "Identifier: Packages"]).splitlines()
    found = [re.fullmatch(r"(?:Debian|Debian-Security|Ubuntu) (\w+)\S* (deb .*)", line) for line in sorted(set(listed))]
    sources = [match for match in found if match]
    if not sources:
        raise CannotBuild("apt knows no packages of Debian or Ubuntu: apt-get update")
    return sources[0][1], [match[2] for match in sources]


def _python_of(root: Path) -> str:
    """Its version, such as 3.11."""
    with tarfile.open(root) as tar:
        found = [re.fullmatch(r"\./usr/bin/python(3\.\d+)", name) for name in tar.getnames()]
    return next(match[1] for match in found if match)


def _install_packages(target: Path, python: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", f"--python-version={python}", f"--target={target}"]
    _run([*command, "-r", str(LOCK)])


def _keep_digits(packages: Path) -> None:
    """The data set reaches the job as its user's input, as anyone's data would."""
    DATA.mkdir(parents=True, exist_ok=True)
    unfinished = DATA / f"unfinished-{os.getpid()}"
    shutil.copyfile(packages / "sklearn" / "datasets" / "data" / DIGITS.name, unfinished)
    unfinished.rename(DIGITS)


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=BUILD_SECONDS)
    except subprocess.CalledProcessError as error:
        raise CannotBuild(f"{command[0]} failed: {error.stderr.strip()[-500:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBuild(f"{command[0]}: {error}") from error
    return done.stdout


if __name__ == "__main__":
    try:
        print(build_image(os.environ.get("DOCKER_HOST")))
    except CannotBuild as error:
        sys.exit(str(error))
