"""The image of gateways: this machine's own shell and iptables, with the libraries that they need, imported into the
engine. No registry is asked, and no image of a stranger's gets a gateway's rights.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

from docker import APIClient
from docker.errors import ImageNotFound
from msgspec import Struct

from dms.adapters.executors.calls import EngineCalls
from dms.errors import NetworkUnavailable

REPOSITORY = "dms-gateway"
LABEL_GATEWAY_IMAGE = "io.nunet.dms.gateway_image"
TOOLS = ("bash", "readlink", "sleep", "timeout")
RESTORE = ("iptables-restore", "iptables-save", "ip6tables-restore", "ip6tables-save")
MATCHES = (
    "libxt_conntrack.so", "libxt_connlimit.so", "libxt_limit.so", "libxt_quota.so", "libxt_standard.so",
    "libxt_tcp.so", "libxt_udp.so", "libipt_REJECT.so", "libip6t_REJECT.so", "libipt_ttl.so",
)  # fmt: skip
_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"  # of root, whose programs these are
_LDD_SECONDS = 10.0
_LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$")


class Files(Struct, frozen=True, kw_only=True):
    """path in the image -> file of this machine. legacy: iptables speaks the kernel's older interface, which takes
    a raw socket."""

    paths: dict[str, Path]
    plugins: str
    legacy: bool


class GatewayImage:
    """legacy: as in `Files`, once it is ready."""

    def __init__(self, calls: EngineCalls) -> None:
        self._calls = calls
        self._name = ""  # of the one that was there last: what it is made of is read anew only when it is gone
        self.legacy = False

    async def ready(self) -> str:
        """Its name; imported where it is not there. Raises NetworkUnavailable naming what this machine lacks,
        ExecutorUnavailable."""
        return await self._calls.work("import the gateways' image", self._import)

    def _import(self, api: APIClient) -> str:
        if self._name and _is_there(api, self._name):
            return self._name
        found = files()
        self.legacy = found.legacy
        content = {path: file.read_bytes() for path, file in found.paths.items()}
        name = f"{REPOSITORY}:{_digest(content)}"
        if not _is_there(api, name):
            changes = [f"ENV PATH=/bin XTABLES_LIBDIR={found.plugins}", f"LABEL {LABEL_GATEWAY_IMAGE}=true"]
            repository, _, tag = name.partition(":")
            api.import_image_from_data(_archive(content), repository=repository, tag=tag, changes=changes)
        self._name = name
        return name


def _is_there(api: APIClient, name: str) -> bool:
    try:
        api.inspect_image(name)  # type: ignore[no-untyped-call]  # of types-docker
    except ImageNotFound:
        return False
    return True


def files() -> Files:
    """Raises NetworkUnavailable."""
    tools = {f"/bin/{name}": _program(name) for name in TOOLS}
    multi = _program("iptables-restore")
    plugins = _plugins()
    matches = {f"{plugins}/{name}": plugins / name for name in MATCHES}
    if missing := [str(path) for path in matches.values() if not path.is_file()]:
        raise NetworkUnavailable(f"iptables of this machine is incomplete: {', '.join(missing)} is not there")
    libraries = {str(path): path for path in _libraries([*tools.values(), multi, *matches.values()])}
    restore = {f"/bin/{name}": multi for name in RESTORE}
    return Files(
        paths=tools | restore | matches | libraries, plugins=str(plugins), legacy=multi.name == "xtables-legacy-multi"
    )


def _program(name: str) -> Path:
    found = shutil.which(name, path=_FOLDERS)
    if found is None:
        package = "iptables" if "tables" in name else "bash coreutils"
        raise NetworkUnavailable(f"{name} is not installed on this machine (apt-get install {package})")
    return Path(found).resolve()


def _plugins() -> Path:
    folders = sorted({*Path("/usr/lib").glob("*/xtables"), Path("/usr/lib64/xtables"), Path("/usr/lib/xtables")})
    for folder in folders:
        if (folder / "libxt_conntrack.so").is_file():
            return folder
    raise NetworkUnavailable("the extensions of iptables are not found below /usr/lib (apt-get install iptables)")


def _libraries(programs: Iterable[Path]) -> list[Path]:
    """What the loader would load for them, itself among it. Only ever asked of this machine's own programs."""
    try:
        done = subprocess.run(
            ["ldd", *map(str, programs)], check=False, capture_output=True, text=True, timeout=_LDD_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkUnavailable(f"which libraries iptables needs can't be told: {error}") from error
    found = {Path(match[1]) for line in done.stdout.splitlines() if (match := _LIBRARY.match(line))}
    if not found:
        raise NetworkUnavailable(f"which libraries iptables needs can't be told: {done.stderr.strip()[:200]}")
    return sorted(found)


def _digest(content: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for path, data in sorted(content.items()):
        digest.update(f"{path}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:16]


def _archive(content: dict[str, bytes]) -> bytes:
    """Programs that are the same file are links to one."""
    whole = io.BytesIO()
    first: dict[bytes, str] = {}
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for path, data in sorted(content.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.mode = 0o755
            if (known := first.setdefault(data, path)) != path:
                entry.type, entry.linkname = tarfile.SYMTYPE, known
                tar.addfile(entry)
            else:
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return whole.getvalue()
