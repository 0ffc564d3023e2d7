"""Builds the small images that tests and demos run, without any registry.

    python -m ops.demo_image

`dms-test/busybox:latest` has no entrypoint: a job's arguments are the command itself.
`dms-test/shell:latest` runs its first argument through `sh -c`, as a job passes exactly two arguments
(`model_url` and the packages, which the script sees as `$0`).
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from docker import APIClient
from docker.errors import ImageNotFound

BUSYBOX = Path("/bin/busybox")  # of Debian's package busybox-static
PLAIN_IMAGE = "dms-test/busybox:latest"
SHELL_IMAGE = "dms-test/shell:latest"
VERSION = "2"  # of this recipe: an image of another one is built anew
VERSION_LABEL = "io.nunet.dms.demo"


def build_images(base_url: str | None = None) -> tuple[str, str]:
    """(PLAIN_IMAGE, SHELL_IMAGE), built if they are not there yet. base_url: as in the Docker SDK.
    Raises FileNotFoundError without busybox, docker.errors.DockerException without Docker."""
    api = APIClient(base_url=base_url, version="auto")
    try:
        build_image(api, PLAIN_IMAGE, [])
        build_image(api, SHELL_IMAGE, ['ENTRYPOINT ["/bin/sh", "-c"]'])
    finally:
        api.close()
    return PLAIN_IMAGE, SHELL_IMAGE


def build_image(api: APIClient, tag: str, changes: Sequence[str]) -> str:
    """Imports busybox's file system as `tag`; answers the tag. changes: Dockerfile lines."""
    recipe = [*changes, "ENV PATH=/bin", f'LABEL {VERSION_LABEL}="{VERSION}"']
    if not _is_there(api, tag):
        repository, _, version = tag.rpartition(":")
        api.import_image_from_data(root_filesystem(), repository=repository, tag=version, changes=recipe)
    return tag


def root_filesystem() -> bytes:
    """A tar archive: /bin/busybox, a link for each of its applets, and the usual folders."""
    if not BUSYBOX.exists():
        raise FileNotFoundError(f"{BUSYBOX} is missing: apt-get install busybox-static")
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700)):
            _add(tar, folder, tarfile.DIRTYPE, mode=mode)
        _add(tar, "bin/busybox", tarfile.REGTYPE, BUSYBOX.read_bytes())
        _add(tar, "etc/passwd", tarfile.REGTYPE, b"root:x:0:0::/root:/bin/sh\n", mode=0o644)
        for applet in _applets():
            _add(tar, f"bin/{applet}", tarfile.SYMTYPE, link="busybox")
    return target.getvalue()


def _applets() -> list[str]:
    listed = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True, timeout=10)
    return [name for name in listed.stdout.split() if name != "busybox"]


def _add(tar: tarfile.TarFile, name: str, kind: bytes, data: bytes = b"", mode: int = 0o755, link: str = "") -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), link
    tar.addfile(entry, io.BytesIO(data))


def _is_there(api: APIClient, tag: str) -> bool:
    try:
        image = api.inspect_image(tag)  # type: ignore[no-untyped-call]  # of types-docker
    except ImageNotFound:
        return False
    return (image["Config"].get("Labels") or {}).get(VERSION_LABEL) == VERSION


if __name__ == "__main__":
    for built in build_images():
        print(built)
