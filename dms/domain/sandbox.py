"""Whether the sandbox of jobs holds, judged by what a test container found from inside.

Each row of the report is one promise to the owner of the machine. Peers' jobs are taken only while all promises hold,
except those that the owner gave up in the configuration.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from dms.domain.check import Check, CheckState

Answers = Mapping[str, int]  # of system calls: zero or more, or less than zero, the negative number of the error

_REFUSED = frozenset((errno.EPERM, errno.EACCES, errno.ENOSYS))  # to use the call at all
_NO_WAY_OUT = frozenset((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, *_REFUSED))
_USUAL_DEVICES = frozenset((
    "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
    "tty", "urandom", "zero",
))  # fmt: skip  # Source: OCI runtime specification, config-linux.md, "Default Devices"
_GVISORS_DEVICES = frozenset(("fuse", "net"))  # of its own kernel. Source: gVisor, pkg/sentry/devices
ST_NOSUID, ST_NODEV = 2, 4
SECCOMP_FILTER = 2

START = "start"
OWN_KERNEL = "a kernel of its own"
GVISOR = "gvisor"  # before the names of rows of what was tried in it


class Asked(Struct, frozen=True, kw_only=True):
    """What the test container was given, by the profile of jobs. image_user, writable_root: the owner gives jobs the
    user of their image, a root file system that can be written."""

    processes: int
    memory_mb: int
    open_files: int
    image_user: bool = False
    writable_root: bool = False


class Found(Struct, frozen=True, kw_only=True):
    """As seen from inside. uid, effective_uid: of its first process. setuid_uid: the effective one of a program that
    root owns and that has the bit. capabilities: effective and permitted, as bits. namespaces: kind -> name. shared:
    kinds of namespace that it has in common with the DMS, as far as that can be told. devices: names in /dev. calls:
    of the kernel, that no job needs. writes: tries to make files, by place, beyond any bound where the place has one.
    routes: tries to find a way out of the network. host_files: tries to open what is the machine's own. forks: the
    first try to start a process, and the first beyond the bound. memory: what came of the try to take four times what
    it may have: None when it was killed for that. mount_flags: of places that can be written. kernel: its release."""

    uid: int
    effective_uid: int
    setuid_uid: int
    capabilities: int
    no_new_privileges: bool
    seccomp: int
    open_files: int
    shared: tuple[str, ...]
    devices: tuple[str, ...]
    calls: Answers
    writes: Answers
    root_write: int
    routes: Answers
    host_files: Answers
    mount_flags: Answers
    forks: tuple[int, int] | None
    memory: int | None
    killed_for_memory: bool
    kernel: str
    own_kernel: bool = False


def rows_of(found: Found, asked: Asked, accepted: Collection[str] = (), runtime: str = "") -> tuple[Check, ...]:
    """accepted: names of rows whose failure the owner accepts. runtime: where it was tried, empty for the engine's
    own."""
    rows = (
        _of_user(found, asked),
        _of_privileges(found),
        _of_setuid(found),
        _of_network(found),
        _of_namespaces(found),
        _of_processes(found, asked),
        _of_memory(found, asked),
        _of_root(found, asked),
        _of_scratch(found),
        _of_devices(found),
        _of_host_files(found),
        _of_open_files(found, asked),
        _of_calls(found),
    )
    return tuple(_accepted(replace(row, name=_name(row.name, runtime)), accepted) for row in rows)


def not_started(reason: str, runtime: str = "") -> tuple[Check, ...]:
    """Of a test container that the engine did not run, or that told nothing."""
    advice = "fix what the container engine reports: no job would start either"
    name = _name(START, runtime)
    return (Check(name=name, state=CheckState.FAILED, found=reason, advice=advice, required=True),)


def untried_rows(reason: str) -> tuple[Check, ...]:
    """Of a sandbox that can't be tried now; none for an empty reason."""
    if not reason:
        return ()
    advice = "what is told of the sandbox is what was found when it was tried last: fix this, and examine it again"
    return (Check(name="sandbox", state=CheckState.FAILED, found=f"can't be tried now: {reason}", advice=advice),)


def trouble_of(rows: Iterable[Check]) -> str:
    """Why no peer's job is taken; empty if they are taken."""
    broken = [row for row in rows if row.breaks]
    if not broken:
        return ""
    told = "; ".join(f"{row.name}: {row.found}" for row in broken)
    return f"the provider's sandbox does not confine jobs ({told})"


NAMES = (
    "user", "privileges", "setuid", "network", "namespaces", "processes", "memory", "root-filesystem", "scratch",
    "devices", "host-files", "open-files", "system-calls", START,
)  # fmt: skip
ALL_NAMES = (*NAMES, *(f"{GVISOR}-{name}" for name in NAMES))


def _name(row: str, runtime: str) -> str:
    return f"{runtime}-{row}" if runtime else row


def _accepted(row: Check, accepted: Collection[str]) -> Check:
    if row.name not in accepted or row.state != CheckState.FAILED:
        return row
    return Check(name=row.name, state=CheckState.WARNING, found=f"{row.found} (accepted: job.sandbox_accept)")


def _row(name: str, trouble: str, good: str, advice: str) -> Check:
    state = CheckState.FAILED if trouble else CheckState.PASSED
    return Check(name=name, state=state, found=trouble or good, advice=advice if trouble else "", required=True)


_ENGINE_ADVICE = "use the engine's own runc, without options that weaken it (docker info names them)"


def _of_user(found: Found, asked: Asked) -> Check:
    if 0 not in (found.uid, found.effective_uid):
        return _row("user", "", f"jobs run as user {found.uid}", "")
    if asked.image_user:
        return Check(
            name="user", state=CheckState.WARNING, found="root, where an image asks for it (job.run_as_image_user)"
        )
    return _row("user", "jobs run as root", "", _ENGINE_ADVICE)


def _of_privileges(found: Found) -> Check:
    troubles = []
    if found.capabilities:
        troubles.append(f"a job has capabilities ({found.capabilities:#x})")
    if not found.no_new_privileges:
        troubles.append("a job may gain privileges")
    good = "no capabilities, and none can be gained"
    return _row("privileges", "; ".join(troubles), good, _ENGINE_ADVICE)


def _of_setuid(found: Found) -> Check:
    gained = found.setuid_uid == 0 and 0 not in (found.uid, found.effective_uid)
    unknown = found.setuid_uid < 0
    if unknown:
        return Check(name="setuid", state=CheckState.UNKNOWN, found=f"could not be tried: {_word(found.setuid_uid)}")
    trouble = "a setuid program owned by root made a job root" if gained else ""
    return _row("setuid", trouble, "setuid programs gain nothing", _ENGINE_ADVICE)


def _of_network(found: Found) -> Check:
    ways = [name for name, answer in found.routes.items() if -answer not in _NO_WAY_OUT]
    trouble = f"a job without a network has a way out: {', '.join(ways)}" if ways else ""
    return _row("network", trouble, "a job without a network reaches only itself", _ENGINE_ADVICE)


def _of_namespaces(found: Found) -> Check:
    trouble = f"a job shares this machine's: {', '.join(found.shared)}" if found.shared else ""
    return _row("namespaces", trouble, "a job sees no process, mount or message of this machine", _ENGINE_ADVICE)


def _of_processes(found: Found, asked: Asked) -> Check:
    """Those of a kernel of its own are none of the machine's, and gVisor may end when there is no room for more."""
    advice = "enable the pids controller of cgroups, and let the engine use it (docker info, Cgroup Driver)"
    if found.own_kernel and (found.forks is None or found.forks[0] > 0):
        return _row("processes", "", f"a fork bomb stays in {OWN_KERNEL}", "")
    if found.forks is None or found.forks[0] <= 0:
        told = "no answer" if found.forks is None else _word(found.forks[0])
        return Check(name="processes", state=CheckState.UNKNOWN, found=f"a fork bomb could not be tried: {told}")
    beyond = found.forks[1]
    trouble = "" if beyond == -errno.EAGAIN else f"a job of at most {asked.processes} processes could start more"
    return _row("processes", trouble, "a fork bomb ends at the job's bound", advice)


def _of_memory(found: Found, asked: Asked) -> Check:
    advice = (
        "enable the cgroups' memory controller with swap accounting (kernel option swapaccount=1), or turn swap off"
    )
    taken = found.memory is not None and found.memory > asked.memory_mb * 1024 * 1024
    if taken:
        return _row("memory", f"a job of {asked.memory_mb} MB could take four times that", "", advice)
    if found.memory is None and not found.killed_for_memory:
        return Check(name="memory", state=CheckState.UNKNOWN, found="the test ended before it could be tried")
    return _row("memory", "", "a job that takes more memory than it may have is ended", advice)


def _of_root(found: Found, asked: Asked) -> Check:
    if found.root_write < 0:
        return _row("root-filesystem", "", "read-only", "")
    if asked.writable_root:
        what = "writable without a quota, as this DMS is configured"
        return Check(name="root-filesystem", state=CheckState.WARNING, found=what)
    return _row("root-filesystem", "a job can write it, without a quota", "", _ENGINE_ADVICE)


def _of_scratch(found: Found) -> Check:
    beyond = [place for place, answer in found.writes.items() if answer >= 0]
    loose = [place for place, flags in found.mount_flags.items() if not (flags & ST_NOSUID and flags & ST_NODEV)]
    troubles = [f"{place} has no bound" for place in beyond]
    troubles += [f"{place} allows setuid programs or devices" for place in loose]
    return _row("scratch", "; ".join(troubles), "all that a job can write to has a bound", _ENGINE_ADVICE)


def _of_devices(found: Found) -> Check:
    usual = _USUAL_DEVICES | (_GVISORS_DEVICES if found.own_kernel else set())
    if more := sorted({*found.devices} - usual):
        told = ", ".join(more[:8]) + (f" and {len(more) - 8} more" if len(more) > 8 else "")
        return _row("devices", f"a job sees devices of this machine: {told}", "", _ENGINE_ADVICE)
    return _row("devices", "", "only those that every container has", "")


def _of_host_files(found: Found) -> Check:
    opened = [place for place, answer in found.host_files.items() if answer >= 0]
    trouble = f"a job can open {', '.join(opened)}" if opened else ""
    return _row("host-files", trouble, "nothing of this machine's can be opened", _ENGINE_ADVICE)


def _of_open_files(found: Found, asked: Asked) -> Check:
    trouble = "" if found.open_files <= asked.open_files else f"a job may open {found.open_files} files"
    return _row("open-files", trouble, f"a job may open {found.open_files} files at once", _ENGINE_ADVICE)


def _of_calls(found: Found) -> Check:
    """A kernel that is not the machine's own may answer what it likes."""
    if found.own_kernel:
        return _row("system-calls", "", f"they reach {OWN_KERNEL}, not this machine's", "")
    reached = [name for name, answer in found.calls.items() if -answer not in _REFUSED]
    troubles = [f"a job reaches {', '.join(reached)}"] if reached else []
    if found.seccomp != SECCOMP_FILTER:
        troubles.append("no filter of system calls is in force")
    advice = "use a kernel and an engine with seccomp (docker info, Security Options), without a runtime that drops it"
    return _row("system-calls", "; ".join(troubles), "those that no job needs are refused", advice)


def _word(answer: int) -> str:
    return os.strerror(-answer)
