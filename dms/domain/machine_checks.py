"""Checks of the machine that a DMS runs on: clock, disks, open files, engine, versions, keys, addresses. None of them
alone keeps peers' jobs away."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from ipaddress import ip_address

from msgspec import Struct

from dms.domain.check import Check, CheckState
from dms.domain.engine_facts import EngineFacts

MIB, GIB = 1024 * 1024, 1024 * 1024 * 1024
ENOUGH_OPEN_FILES = 4_096
_TOO_LITTLE_BYTES, _LITTLE_BYTES, _LITTLE_SHARE = 256 * MIB, 2 * GIB, 0.05
_MOST_CLOCK_ERROR_SECONDS = 5.0
# Source: Python Developer's Guide, "Status of Python versions"
_PYTHON_FIXED_UNTIL = {
    (3, 11): date(2027, 10, 31), (3, 12): date(2028, 10, 31), (3, 13): date(2029, 10, 31), (3, 14): date(2030, 10, 31),
}  # fmt: skip
# Source: runc's security advisories: CVE-2024-21626; CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881
_RUNC_HOLES = (((1, 1, 12), "CVE-2024-21626"), ((1, 2, 8), "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881"))
_RUNC_1_3_FIXED = (1, 3, 3)
_GPU_TOOLKIT_FIXED = (1, 17, 8)  # Source: NVIDIA's security bulletin of July 2025, CVE-2025-23266
_IP = re.compile(r"^/ip[46]/([^/]+)/")


class ClockFacts(Struct, frozen=True, kw_only=True):
    """error_seconds: the most that it may be wrong; None where the machine does not say."""

    synchronised: bool
    error_seconds: float | None = None


class StoreFacts(Struct, frozen=True, kw_only=True):
    """name: what is in it."""

    name: str
    path: str
    free_bytes: int
    total_bytes: int


class KeyFacts(Struct, frozen=True, kw_only=True):
    """mode: permission bits. own: it belongs to the DMS's user, or to root."""

    path: str
    mode: int
    own: bool


class MachineFacts(Struct, frozen=True, kw_only=True):
    """clock: None where it can't be told. open_files: that this process may have, -1 for no bound. python: its
    version. gpu_toolkit: NVIDIA's Container Toolkit, its version; empty where there is none."""

    clock: ClockFacts | None
    stores: tuple[StoreFacts, ...]
    open_files: int
    python: tuple[int, int, int]
    keys: tuple[KeyFacts, ...]
    gpu_toolkit: str = ""


def machine_rows(facts: MachineFacts, now_us: int) -> tuple[Check, ...]:
    """now_us: Unix time, microseconds."""
    today = datetime.fromtimestamp(now_us / 1_000_000, UTC).date()
    return (
        _of_clock(facts.clock),
        *map(_of_store, facts.stores),
        _of_open_files(facts.open_files),
        _of_python(facts.python, today),
        *map(_of_key, facts.keys),
        *_of_gpu_toolkit(facts.gpu_toolkit),
    )


def engine_rows(facts: EngineFacts | None, trouble: str = "") -> tuple[Check, ...]:
    """facts: None where there is none. trouble: why it does not answer."""
    if trouble:
        advice = "start it (systemctl start docker), and give the DMS's user access to its socket (group docker)"
        return (Check(name="engine", state=CheckState.FAILED, found=trouble, advice=advice),)
    if facts is None:
        found = "none is used: jobs are bare processes, and those of peers are refused"
        return (Check(name="engine", state=CheckState.WARNING, found=found, advice="install Docker"),)
    return tuple(_of_engine(facts))


def address_row(addresses: Sequence[str]) -> Check:
    """addresses: multiaddrs at which this node can be reached, as far as it knows. Whether a firewall lets peers
    through can only be seen from outside."""
    advice = "try it from another network: nc -vz <address> <port>; behind a router, forward the port and set "
    advice += "p2p.announce_address"
    public = [text for text in addresses if _is_public(text)]
    found = f"peers are told {public[0]}" if public else "this node has no public address"
    return Check(name="reachable", state=CheckState.UNKNOWN, found=f"not known from here; {found}", advice=advice)


def _is_public(multiaddr: str) -> bool:
    match = _IP.match(multiaddr)
    try:
        return match is not None and ip_address(match[1]).is_global
    except ValueError:
        return False


def _of_clock(clock: ClockFacts | None) -> Check:
    advice = "synchronise it over the network: timedatectl set-ntp true"
    if clock is None:
        return Check(name="clock", state=CheckState.UNKNOWN, found="whether it is synchronised is not known")
    if not clock.synchronised:
        found = "not synchronised, according to the kernel"
        return Check(name="clock", state=CheckState.WARNING, found=found, advice=advice)
    if clock.error_seconds is None:
        return Check(name="clock", state=CheckState.PASSED, found="synchronised")
    wrong = clock.error_seconds > _MOST_CLOCK_ERROR_SECONDS
    found = f"synchronised to within {clock.error_seconds:.3f} s"
    state = CheckState.WARNING if wrong else CheckState.PASSED
    return Check(name="clock", state=state, found=found, advice=advice if wrong else "")


def _of_store(store: StoreFacts) -> Check:
    name = f"disk of {store.name}"
    found = f"{store.free_bytes // MIB} of {store.total_bytes // MIB} MiB are free ({store.path})"
    advice = "make room, or move it to a larger disk"
    if store.free_bytes < _TOO_LITTLE_BYTES:
        return Check(name=name, state=CheckState.FAILED, found=found, advice=advice)
    little = store.free_bytes < _LITTLE_BYTES or store.free_bytes < store.total_bytes * _LITTLE_SHARE
    return Check(
        name=name,
        state=CheckState.WARNING if little else CheckState.PASSED,
        found=found,
        advice=advice if little else "",
    )


def _of_open_files(most: int) -> Check:
    found = "unlimited" if most < 0 else f"{most} at once"
    if 0 <= most < ENOUGH_OPEN_FILES:
        advice = f"raise it to {ENOUGH_OPEN_FILES} or more: ulimit -Hn, or LimitNOFILE= of the service"
        return Check(name="descriptors", state=CheckState.WARNING, found=found, advice=advice)
    return Check(name="descriptors", state=CheckState.PASSED, found=found)


def _of_python(version: tuple[int, int, int], today: date) -> Check:
    found, until = "Python " + _dotted(version), _PYTHON_FIXED_UNTIL.get(version[:2])
    if until is not None and today > until:
        advice = "install a newer version: this one no longer gets security fixes"
        return Check(name="python", state=CheckState.WARNING, found=found, advice=advice)
    return Check(name="python", state=CheckState.PASSED, found=found)


def _of_key(key: KeyFacts) -> Check:
    if key.own and not key.mode & 0o077:
        return Check(name="key", state=CheckState.PASSED, found=f"{key.path} is accessible only to its owner")
    why = f"is accessible to others (mode {key.mode:o})" if key.mode & 0o077 else "belongs to another user"
    advice = "give it mode 600 and the DMS's user as its owner"
    return Check(name="key", state=CheckState.FAILED, found=f"{key.path} {why}", advice=advice)


def _of_gpu_toolkit(version: str) -> Iterator[Check]:
    if not version:
        return
    found = f"NVIDIA Container Toolkit {version}"
    if tuple(map(int, version.split("."))) >= _GPU_TOOLKIT_FIXED:
        yield Check(name="gpu-toolkit", state=CheckState.PASSED, found=found)
        return
    found += " is vulnerable to CVE-2025-23266: an image can take over the machine"
    advice = f"install {_dotted(_GPU_TOOLKIT_FIXED)} or later: nunet onboard-gpu says how"
    yield Check(name="gpu-toolkit", state=CheckState.FAILED, found=found, advice=advice)


def _of_engine(facts: EngineFacts) -> Iterator[Check]:
    yield Check(name="engine", state=CheckState.PASSED, found=f"{facts.name}, kernel {facts.kernel}")
    yield _of_security(facts.security)
    if holes := list(_holes_of(facts.runc)):
        yield Check(
            name="runc",
            state=CheckState.WARNING,
            found=f"{facts.runc}, by its number, is vulnerable to {', '.join(holes)}",
            advice="install 1.2.8, 1.3.3 or later, unless your distribution has patched it (see its changelog)",
        )
    for text in facts.warnings:
        yield Check(name="engine", state=CheckState.WARNING, found=f"it warns: {text.removeprefix('WARNING: ')}")


def _of_security(options: Iterable[str]) -> Check:
    found = {*options}
    text = f"the engine has {', '.join(sorted(found)) or 'none'}"
    if "seccomp" not in found:
        advice = "use a kernel and an engine with seccomp"
        return Check(name="engine-security", state=CheckState.FAILED, found=text, advice=advice)
    if not found & {"apparmor", "selinux"}:
        advice = "turn on AppArmor or SELinux: it would confine jobs a second time"
        return Check(name="engine-security", state=CheckState.WARNING, found=text, advice=advice)
    return Check(name="engine-security", state=CheckState.PASSED, found=text)


def _holes_of(runc: str) -> Iterator[str]:
    """By the version number alone: a distribution may have patched it."""
    version = tuple(int(part) for part in runc.split(".")) if runc else ()
    if not version:
        return
    for mended, names in _RUNC_HOLES:
        if version < mended:
            yield names
    if (1, 3) <= version < _RUNC_1_3_FIXED:
        yield _RUNC_HOLES[-1][1]


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
