"""The image of our own small containers: this machine's static busybox and nothing else, imported into the engine.

No registry is asked, and no image of a stranger's gets the rights that a helper has.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import struct
import tarfile
from pathlib import Path

from docker import APIClient
from docker.errors import ImageNotFound

from dms.adapters.executors.calls import EngineCalls
from dms.adapters.executors.profile import LABEL_PART
from dms.errors import ExecutionError

APPLETS = ("chmod", "chown", "date", "find", "head", "sh", "sha256sum", "sleep", "stat", "tar", "test", "timeout",
           "touch", "true", "xargs")  # fmt: skip
REPOSITORY = "dms-helper"
MOST_BYTES = 64 * 1024 * 1024
NO_BUSYBOX = "busybox-static is not installed on this machine (apt-get install busybox-static)"
_PT_INTERP = 3  # a program that needs a loader is not a static one


class HelperImage:
    def __init__(self, calls: EngineCalls, busybox: Path | None = None) -> None:
        """busybox: None for the machine's own."""
        self._calls = calls
        self._busybox = busybox or Path(shutil.which("busybox") or "/bin/busybox")

    async def ready(self) -> str:
        """Its name; imported if it is not there. Raises ExecutionError where there is no static busybox,
        ExecutorUnavailable."""
        program = self._program()
        tag = hashlib.sha256(program + repr(APPLETS).encode()).hexdigest()[:16]
        await self._calls.work("import the helper image", lambda api: _import(api, tag, program))
        return f"{REPOSITORY}:{tag}"

    def _program(self) -> bytes:
        try:
            if self._busybox.stat().st_size <= MOST_BYTES and is_static(program := self._busybox.read_bytes()):
                return program
        except OSError as error:
            raise ExecutionError(NO_BUSYBOX) from error
        raise ExecutionError(f"{self._busybox} is not a static program: {NO_BUSYBOX}")


def _import(api: APIClient, tag: str, program: bytes) -> None:
    try:
        api.inspect_image(f"{REPOSITORY}:{tag}")  # type: ignore[no-untyped-call]  # of types-docker
    except ImageNotFound:
        changes = ["ENV PATH=/bin", f"LABEL {LABEL_PART}=helper"]
        api.import_image_from_data(_file_system(program), repository=REPOSITORY, tag=tag, changes=changes)


def _file_system(program: bytes) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        folder = tarfile.TarInfo("bin")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        file = tarfile.TarInfo("bin/busybox")
        file.mode, file.size = 0o755, len(program)
        tar.addfile(file, io.BytesIO(program))
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return whole.getvalue()


def is_static(program: bytes) -> bool:
    """Whether it is a 64-bit ELF program that the kernel can run without a loader. Source: ELF-64 Object File Format,
    "Program header table"."""
    if program[:5] != b"\x7fELF\x02" or len(program) < 64:
        return False
    order = "<" if program[5] == 1 else ">"
    (table,) = struct.unpack_from(f"{order}Q", program, 32)
    size, count = struct.unpack_from(f"{order}HH", program, 54)
    if size < 4 or table + size * count > len(program):
        return False
    kinds = (struct.unpack_from(f"{order}I", program, table + number * size)[0] for number in range(count))
    return _PT_INTERP not in kinds
