"""What the test container runs: the system calls by which a hostile job would try to get out or to take too much, none
of which does harm where it is let through. It judges nothing: it writes down what the kernel answered.

What it tells comes in three parts, as the last two tries may end it: all else, the fork bomb, the memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from msgspec import Struct

from dms.adapters.executors.syscall_program import SyscallProgram
from dms.domain.sandbox import Asked, Found

MIB = 1024 * 1024
SETUID_PATH, ROOT_PATH = "/setuid", "/open"  # a program of root's with the bit; a folder that anybody may write
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
HOST_FILES = {  # place -> how it is opened; None: only looked for, as a socket can't be opened
    "/var/run/docker.sock": None, "/run/docker.sock": None, "/run/containerd/containerd.sock": None,
    "/proc/sysrq-trigger": 1, "/proc/sys/kernel/core_pattern": 1, "/sys/kernel/uevent_helper": 1,
}  # fmt: skip
_SLEEP_SECONDS = 20
_FORKS_BEYOND = 8  # tries to start a process, more than there may be

# Of x86_64 and aarch64. Source: Linux, arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h
_NUMBERS = {
    "read": (0, 63), "write": (1, 64), "openat": (257, 56), "getdents64": (217, 61), "readlinkat": (267, 78),
    "fallocate": (285, 47), "unlinkat": (263, 35), "statfs": (137, 43), "socket": (41, 198), "connect": (42, 203),
    "getuid": (102, 174), "geteuid": (107, 175), "capget": (125, 90), "prctl": (157, 167), "clone": (56, 220),
    "execve": (59, 221), "wait4": (61, 260), "exit_group": (231, 94), "ppoll": (271, 73), "mmap": (9, 222),
    "faccessat": (269, 48), "mknodat": (259, 33), "uname": (63, 160), "prlimit64": (302, 261),
    "io_uring_setup": (425, 425), "unshare": (272, 97), "mount": (165, 40), "keyctl": (250, 219), "ptrace": (101, 117),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "open_by_handle_at": (304, 265),
    "init_module": (175, 105), "kexec_load": (246, 104), "setns": (308, 268), "pivot_root": (155, 41),
}  # fmt: skip
_HERE, _NO_PID = -100, 0x3FFFFFFF
_WRITE_NEW, _SOCK_STREAM, _SOCK_DGRAM, _SOCK_RAW = 0o101, 1, 2, 3
_MARK = b"dms!"  # before each part, so that a part which is missing is seen


class Bounds(Struct, frozen=True, kw_only=True):
    """scratch: place -> how many MiB a job can write there."""

    asked: Asked
    scratch: Mapping[str, int]


class Cells:
    """A part of what the program tells: named stretches of its memory, in a row."""

    def __init__(self, program: SyscallProgram, size: int) -> None:
        self._start = program.keep(_MARK.ljust(8))
        self._end = self._start + 8
        program.room(size)
        self._limit = self._end + size
        self.places: dict[str, slice] = {}

    def room(self, name: str, size: int = 8) -> int:
        size += -size % 8
        at, self._end = self._end, self._end + size
        if self._end > self._limit:
            raise ValueError(f"no room left for {name}")
        self.places[name] = slice(at - self._start, at - self._start + size)
        return at

    @property
    def span(self) -> tuple[int, int]:
        """Address and length."""
        return self._start, self._end - self._start


class Canary:
    """The program, and how to read what it tells."""

    def __init__(self, machine: str, bounds: Bounds, *, fork_bomb: bool = True) -> None:
        """machine: one of `syscall_program.MACHINES`. fork_bomb: without it, what comes after it is tried where it is
        the end of the container."""
        self._machine, self._bounds = machine, bounds
        self._program = SyscallProgram(machine)
        self._all = Cells(self._program, 16_384)
        self._forks, self._memory = Cells(self._program, 16), Cells(self._program, 8)
        sleeper = self._program.next_entry
        self._sleep()
        setuid = self._program.next_entry
        self._call("execve", self._text(SETUID_PATH), self._pointer(SETUID_PATH), self._program.room(8))
        self._exit(_NOT_EXECUTED)
        self._program.start_here()
        self._who(setuid)
        self._places()
        self._network()
        self._kernel_calls()
        self._tell(self._all)
        first, last = self._forks.room("first"), self._forks.room("last")
        if fork_bomb:
            self._fork_bomb(sleeper, first, last)
        self._tell(self._forks)
        self._take_memory()
        self._tell(self._memory)
        self._exit(0)

    def elf(self) -> bytes:
        return self._program.elf()

    def read(
        self, told: bytes, *, killed_for_memory: bool, outside: Mapping[str, str], host_kernel: str
    ) -> Found | None:
        """None when it told nothing. outside: the DMS's own namespaces, by kind. host_kernel:
        the release of the engine's machine."""
        whole, forks, memory = _parts(told, [part.span[1] for part in (self._all, self._forks, self._memory)])
        if whole is None:
            return None
        seen = Seen(whole, self._all.places)
        kernel = seen.text("uname", start=130)
        found = Seen(forks or b"", self._forks.places)
        return Found(
            uid=seen.number("uid"),
            effective_uid=seen.number("euid"),
            setuid_uid=_exit_code(seen.number("setuid"), seen.number("setuid waited")),
            capabilities=seen.capabilities(),
            no_new_privileges=seen.number("nnp") == 1,
            seccomp=seen.number("seccomp"),
            open_files=seen.number("nofile"),
            shared=tuple(kind for kind in NAMESPACES if _same(seen.text(f"ns {kind}"), outside.get(kind, ""))),
            devices=tuple(_names_in(seen.bytes("devices"), seen.number("devices read"))),
            calls=seen.numbers("call "),
            writes=seen.numbers("write "),
            root_write=seen.number("root write"),
            routes=seen.numbers("route "),
            host_files=seen.numbers("host "),
            mount_flags=dict(seen.mount_flags()),
            forks=None if forks is None else (found.number("first"), found.number("last")),
            memory=None if memory is None else Seen(memory, self._memory.places).number("taken"),
            killed_for_memory=killed_for_memory,
            kernel=kernel,
            own_kernel=bool(host_kernel) and kernel != host_kernel,
        )

    def _sleep(self) -> None:
        """A child of the fork bomb: until the program ends, and not for ever in any case."""
        self._call("prctl", 1, 9)  # PR_SET_PDEATHSIG, SIGKILL
        self._call("ppoll", 0, 0, self._program.keep(struct.pack("<QQ", _SLEEP_SECONDS, 0)), 0)
        self._exit(0)

    # --- what it tries ---
    def _who(self, setuid: int) -> None:
        tell = self._all.room
        self._call("getuid", answer=tell("uid"))
        self._call("geteuid", answer=tell("euid"))
        version = self._program.keep(struct.pack("<IiQ", 0x20080522, 0, 0))  # _LINUX_CAPABILITY_VERSION_3
        self._call("capget", version, tell("capabilities", 24))
        self._call("prctl", 39, 0, 0, 0, 0, answer=tell("nnp"))  # PR_GET_NO_NEW_PRIVS
        self._call("prctl", 21, answer=tell("seccomp"))  # PR_GET_SECCOMP
        self._call("prlimit64", 0, 7, 0, tell("nofile", 16))  # RLIMIT_NOFILE
        self._call("uname", tell("uname", 400))
        child = self._program.room(8)
        self._call("clone", 17, 0, 0, 0, 0, answer=child, on_zero=setuid)  # SIGCHLD
        self._raw("wait4", child, self._value(tell("setuid")), self._value(0), self._value(0),
                  answer=tell("setuid waited"))  # fmt: skip

    def _places(self) -> None:
        tell = self._all.room
        for kind in NAMESPACES:
            self._call("readlinkat", _HERE, self._text(f"/proc/self/ns/{kind}"), tell(f"ns {kind}", 64), 63)
        self._call("openat", _HERE, self._text(f"{ROOT_PATH}/file"), _WRITE_NEW, 0o600, answer=tell("root write"))
        self._list_devices()
        for place, size_mb in self._bounds.scratch.items():
            self._write_beyond(place, size_mb)
        for place, how in HOST_FILES.items():
            answer = tell(f"host {place}")
            if how is None:
                self._call("faccessat", _HERE, self._text(place), 0, answer=answer)
            else:
                self._call("openat", _HERE, self._text(place), how, answer=answer)
        scratch = next(iter(self._bounds.scratch), "/tmp")  # noqa: S108  # of the container
        disk = 0o060600, 8 << 8  # a block device, the first SCSI disk
        self._call("mknodat", _HERE, self._text(f"{scratch}/disk"), *disk, answer=tell("call mknod of a disk"))

    def _list_devices(self) -> None:
        folder = self._open("/dev", 0o200000)  # O_DIRECTORY
        self._raw("getdents64", folder, self._value(self._all.room("devices", 8192)), self._value(8192),
                  answer=self._all.room("devices read"))  # fmt: skip

    def _write_beyond(self, place: str, size_mb: int) -> None:
        self._call("statfs", self._text(place), self._all.room(f"statfs {place}", 120))
        file = self._open(f"{place}/file", _WRITE_NEW)
        self._raw("fallocate", file, self._value(0), self._value(0), self._value((size_mb + 1) * MIB),
                  answer=self._all.room(f"write {place}"))  # fmt: skip
        self._call("unlinkat", _HERE, self._text(f"{place}/file"), 0)

    def _network(self) -> None:
        """Connecting a datagram socket sends nothing: it only looks for a way. The addresses are documentation's."""
        v4 = struct.pack("<HH4s8x", 2, 0x0900, bytes((192, 0, 2, 1)))
        v6 = struct.pack("<HHI16sI", 10, 0x0900, 0, b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01", 0)
        for name, family, address in (("IPv4", 2, v4), ("IPv6", 10, v6)):
            fd = self._program.room(8)
            self._call("socket", family, _SOCK_DGRAM, 0, answer=fd)
            self._raw("connect", fd, self._value(self._program.keep(address)), self._value(len(address)),
                      answer=self._all.room(f"route {name}"))  # fmt: skip

    def _kernel_calls(self) -> None:
        room = self._program.room(256)
        tries: dict[str, tuple[str, *tuple[int, ...]]] = {
            "io_uring": ("io_uring_setup", 1, room),
            "vsock": ("socket", 40, _SOCK_STREAM, 0),
            "packet sockets": ("socket", 17, _SOCK_RAW, 0),
            "raw sockets": ("socket", 2, _SOCK_RAW, 1),
            "keyctl": ("keyctl", 0, -3, 0),  # KEYCTL_GET_KEYRING_ID of the session's
            "ptrace": ("ptrace", 16, _NO_PID, 0, 0),  # PTRACE_ATTACH
            "bpf": ("bpf", 0, 0, 0),
            "perf_event_open": ("perf_event_open", 0, 0, -1, -1, 0),
            "userfaultfd": ("userfaultfd", 0),
            "open_by_handle_at": ("open_by_handle_at", -1, 0, 0),
            "init_module": ("init_module", 0, 0, 0),
            "kexec_load": ("kexec_load", 0, 0, 0, 0),
            "setns": ("setns", -1, 0),
            "pivot_root": ("pivot_root", 0, 0),
            "mount": ("mount", self._text("none"), self._text("/proc"), self._text("proc"), 0, 0),
            "user namespaces": ("unshare", 0x10000000),  # last: it changes what follows
        }
        for name, (call, *arguments) in tries.items():
            self._call(call, *arguments, answer=self._all.room(f"call {name}"))

    def _fork_bomb(self, sleeper: int, first: int, last: int) -> None:
        self._call("clone", 17, 0, 0, 0, 0, answer=first, on_zero=sleeper)
        for _ in range(self._bounds.asked.processes + _FORKS_BEYOND):
            self._call("clone", 17, 0, 0, 0, 0, answer=last, on_zero=sleeper)

    def _take_memory(self) -> None:
        much, place = 4 * self._bounds.asked.memory_mb * MIB, self._program.room(8)
        self._call("mmap", 0, much, 3, 0x22, -1, 0, answer=place)  # private, for reading and writing
        zeros = self._open("/dev/zero", 0)
        self._raw("read", zeros, place, self._value(much), answer=self._memory.room("taken"))

    # --- how a call is written down ---
    def _tell(self, part: Cells) -> None:
        self._call("write", 1, *part.span)

    def _exit(self, code: int) -> None:
        self._call("exit_group", code)

    def _open(self, path: str, how: int) -> int:
        """The address of the descriptor."""
        fd = self._program.room(8)
        self._call("openat", _HERE, self._text(path), how, 0o600, answer=fd)
        return fd

    def _call(self, name: str, *arguments: int, answer: int = 0, on_zero: int = 0) -> None:
        """arguments: their values."""
        self._raw(name, *map(self._value, arguments), answer=answer, on_zero=on_zero)

    def _raw(self, name: str, *arguments: int, answer: int = 0, on_zero: int = 0) -> None:
        """arguments: addresses of their values."""
        number = _NUMBERS[name][_COLUMNS[self._machine]]
        self._program.call(number, *arguments, answer=answer, on_zero=on_zero)

    def _value(self, number: int) -> int:
        return self._program.value(number)

    def _text(self, content: str) -> int:
        return self._program.text(content)

    def _pointer(self, content: str) -> int:
        """The address of a list of one text."""
        return self._program.keep(struct.pack("<QQ", self._text(content), 0))


_COLUMNS = {"x86_64": 0, "aarch64": 1}
_NOT_EXECUTED = 200


def effective_user_program(machine: str) -> bytes:
    """Exits with the last byte of its effective user's id."""
    program = SyscallProgram(machine)
    user, column = program.room(8), _COLUMNS[machine]
    program.call(_NUMBERS["geteuid"][column], answer=user)
    program.call(_NUMBERS["exit_group"][column], user)
    return program.elf()


class Seen:
    """A part of what was told."""

    def __init__(self, content: bytes, places: Mapping[str, slice]) -> None:
        self._content, self._places = content, places

    def bytes(self, name: str) -> bytes:
        return self._content[self._places[name]]

    def number(self, name: str) -> int:
        return int.from_bytes(self.bytes(name)[:8], "little", signed=True)

    def numbers(self, kind: str) -> dict[str, int]:
        return {name.removeprefix(kind): self.number(name) for name in self._places if name.startswith(kind)}

    def text(self, name: str, start: int = 0) -> str:
        return self.bytes(name)[start:].partition(b"\0")[0].decode("ascii", "replace")

    def capabilities(self) -> int:
        """Effective and permitted."""
        low_effective, low_permitted, _, effective, permitted, _ = struct.unpack("<6I", self.bytes("capabilities"))
        return int(low_effective | low_permitted | (effective | permitted) << 32)

    def mount_flags(self) -> Iterator[tuple[str, int]]:
        """Of places whose kernel tells them."""
        for name in self._places:
            if name.startswith("statfs "):
                flags = int.from_bytes(self.bytes(name)[80:88], "little")
                if flags & 0x20:  # ST_VALID
                    yield name.removeprefix("statfs "), flags


def _parts(told: bytes, sizes: list[int]) -> list[bytes | None]:
    """None for a part that was not told."""
    found: list[bytes | None] = []
    for size in sizes:
        part, told = told[:size], told[size:]
        found.append(part if len(part) == size and part.startswith(_MARK) else None)
    return found


def _exit_code(status: int, waited: int) -> int:
    """Of the child; less than zero when it could not be run."""
    if waited < 0:
        return waited
    code = (status & 0xFFFFFFFF) >> 8
    return -8 if status & 0x7F or code == _NOT_EXECUTED else code  # ENOEXEC


def _same(inside: str, outside: str) -> bool:
    return bool(inside) and inside == outside


def _names_in(entries: bytes, length: int) -> Iterator[str]:
    """Of a folder, as getdents64(2) tells them."""
    at, end = 0, min(max(length, 0), len(entries))
    while at + 19 < end:
        (size,) = struct.unpack_from("<H", entries, at + 16)
        name = entries[at + 19 : at + size].partition(b"\0")[0].decode("utf-8", "replace")
        if name not in (".", ".."):
            yield name
        at += max(size, 20)
