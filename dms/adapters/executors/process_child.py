"""The process that runs one job of the executor `process` and outlives the DMS that started it.

    python -m dms.adapters.executors.process_child FOLDER

FOLDER has `spec.json`; this writes `state.json` and `output.ndjson` (one `[stream, time_ns, text]` a
line) beside it, and holds a lock on `lock` for as long as it lives. SIGTERM is passed on to the job,
SIGUSR1 kills it. Standard input has the job's secret environment variables, a JSON object, which are written
nowhere. Standard output is closed once the job was started (or could not be). Nothing else of the DMS that
started it is used: it may be gone at any moment.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import math
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from dms.adapters.executors.endings import is_ended_by
from dms.adapters.executors.growing import EVERY_SECONDS, GrowingText
from dms.adapters.executors.lines import LINE_BYTES, LineCutter
from dms.adapters.executors.process_tree import adopt_orphans, bury_orphans, end_orphans
from dms.clock import boot_us, machine_clock
from dms.disk import append_to, make_folder, private, write_file

TRUNCATED = (
    "[dms] output truncated: the limit of {limit} MB is reached, later lines are dropped"  # as the ports have it
)
LOST = "[dms] output is missing here: it could not be stored ({why})"
READ_BYTES = 65_536
_AFTER_EXIT_SECONDS = 1.0  # for what is still in the pipes; a stray that can't be ended may hold them open for ever
_LOCK_SECONDS = 5.0
_RETRY_SECONDS = 0.5
_WHOLE_BYTES = LINE_BYTES // 4  # so short a line is whole, whatever is in it
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class ProcessSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: a command for /bin/sh. Sizes in MiB."""

    job_id: str
    node_id: str
    command: str
    environment: dict[str, str]
    memory_mb: int
    open_files: int
    file_mb: int
    output_mb: int


class ProcessState(msgspec.Struct, frozen=True, kw_only=True):
    """Times: Unix time in microseconds. exit_code is None while it runs. boot_id, started_boot_us: the same start on
    the machine's boot clock, unknown to older versions. ran_seconds: by that clock. told_to_stop: somebody sent the
    supervisor a signal, and the job ended soon after or by it."""

    supervisor_pid: int
    started_at: int
    exit_code: int | None = None
    finished_at: int = 0
    error: str = ""
    boot_id: str = ""
    started_boot_us: int = 0
    ran_seconds: float | None = None
    told_to_stop: bool = False


class LineWriter:
    """Appends lines with strictly rising times, up to a size; then says so once and drops the rest. What a full disk
    does not take is left out, and a line says where: it must not end the job."""

    def __init__(self, target: Path, limit_bytes: int) -> None:
        self._file = append_to(target)
        self._size = self._file.tell()
        self._left = limit_bytes
        self._limit_mb = limit_bytes // (1024 * 1024)
        self._last_ns = 0
        self._lost = ""
        self._encoder = msgspec.json.Encoder()

    def write(self, stream: str, texts: list[str]) -> None:
        if self._left < 0 or not texts:
            return
        mark = self._encode("stderr", LOST.format(why=self._lost)) if self._lost else b""
        data = mark + b"".join(self._encode(stream, text) for text in texts)
        left = self._left - len(data)
        if left < 0:
            data = self._encode("stderr", TRUNCATED.format(limit=self._limit_mb))
        try:
            self._append(data)
        except OSError as error:
            self._lost = error.strerror or str(error)
        else:
            self._left, self._lost = left, ""

    def close(self) -> None:
        self._file.close()

    def _append(self, data: bytes) -> None:
        """All of it or nothing."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(data)

    def _encode(self, stream: str, text: str) -> bytes:
        self._last_ns = max(time.time_ns(), self._last_ns + 1)
        return self._encoder.encode((stream, self._last_ns, text)) + b"\n"


class LineSplitter:
    """Bytes of one stream to lines, of which long ones come in pieces."""

    def __init__(self) -> None:
        self._cutter = LineCutter()
        self._open = False  # there is a line that has begun
        self.growing = GrowingText()

    def feed(self, data: bytes) -> list[str]:
        self.growing.feed(data)
        texts: list[str] = []
        *ends, rest = data.split(b"\n")
        for end in ends:
            if self._open or len(end) > _WHOLE_BYTES:
                texts += self._cutter.end(end)
                self._open = False
            else:
                texts.append(end.decode("utf-8", "replace"))
        if rest:
            texts += self._cutter.feed(rest)
            self._open = True
        return texts

    def flush(self) -> list[str]:
        return list(self._cutter.end()) if self._open else []


class GrowingFile:
    """What is shown of lines without an end, in a file that is written anew so often at most. It is for who watches:
    that it can't be written harms nobody."""

    def __init__(self, path: Path, texts: dict[str, GrowingText]) -> None:
        self._path, self._texts = path, texts
        self._written = dict.fromkeys(texts, "")
        self._next = 0.0

    def due_in(self) -> float:
        """Seconds until there is something to write; infinite for nothing."""
        return max(0.0, self._next - time.monotonic()) if self._shown() != self._written else math.inf

    def write(self) -> None:
        if self.due_in() > 0:
            return
        self._written, self._next = self._shown(), time.monotonic() + EVERY_SECONDS
        with contextlib.suppress(OSError):
            write_file(self._path, msgspec.json.encode(self._written), durable=False)

    def _shown(self) -> dict[str, str]:
        return {name: text.shown for name, text in self._texts.items()}


def supervise(folder: Path, secrets: dict[str, str]) -> None:
    """Runs the job of the folder, once: returns at once if another supervisor has it or it was run."""
    lock = private(folder / "lock", os.O_RDWR | os.O_CREAT)
    deadline = time.monotonic() + _LOCK_SECONDS
    while not (folder / "state.json").exists() and time.monotonic() < deadline:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another supervisor, or just someone who looks whether there is one
            time.sleep(0.01)
        else:
            if not (folder / "state.json").exists():
                _run(folder, msgspec.json.decode((folder / "spec.json").read_bytes(), type=ProcessSpec), secrets)
            return


def _run(folder: Path, spec: ProcessSpec, secrets: dict[str, str]) -> None:
    began = machine_clock()
    state = ProcessState(
        supervisor_pid=os.getpid(), started_at=began.wall_us, boot_id=began.boot_id, started_boot_us=began.boot_us
    )
    # Before the job: should we die in between, it counts as lost and is not run twice.
    _store(folder, state)
    adopt_orphans()
    try:
        writer = LineWriter(folder / "output.ndjson", spec.output_mb * 1024 * 1024)
        job = _spawn(folder, spec, secrets)
    except (OSError, subprocess.SubprocessError) as error:
        _store(folder, msgspec.structs.replace(state, exit_code=126, finished_at=_now(), error=str(error)))
        return
    signals = SignalsPassedOn(job)
    signal.signal(signal.SIGCHLD, lambda *_: bury_orphans(job.pid))
    _close_standard_output()
    ended_boot_us = _copy_output(job, writer, folder)
    writer.close()
    code = job.wait()
    code = 128 - code if code < 0 else code  # a signal's number, as a shell tells it
    ended = msgspec.structs.replace(
        state,
        exit_code=code,
        finished_at=_now(),
        ran_seconds=max(0, ended_boot_us - state.started_boot_us) / 1_000_000,
        told_to_stop=signals.explain(code, ended_boot_us),
    )
    while not _is_stored(folder, ended):  # nobody else knows how it ended: a full disk is waited out
        time.sleep(_RETRY_SECONDS)


def _spawn(folder: Path, spec: ProcessSpec, secrets: dict[str, str]) -> subprocess.Popen[bytes]:
    work = folder / "work"
    make_folder(work)
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(work), "LANG": "C.UTF-8"}
    return subprocess.Popen(
        ["/bin/sh", "-c", spec.command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=work,
        env={**environment, **secrets, **spec.environment},
        start_new_session=True,
        preexec_fn=lambda: _limit(spec),  # noqa: PLW1509  # this process has one thread
    )


def _limit(spec: ProcessSpec) -> None:
    """Runs in the child, before the job."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    mib = 1024 * 1024
    limits = {
        resource.RLIMIT_DATA: spec.memory_mb * mib,
        resource.RLIMIT_FSIZE: spec.file_mb * mib,
        resource.RLIMIT_NOFILE: spec.open_files,
        resource.RLIMIT_CORE: 0,
    }
    for which, value in limits.items():
        hard = resource.getrlimit(which)[1]  # only root may go beyond it
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (most, most))
    os.nice(10)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


class SignalsPassedOn:
    """What the supervisor is told, its job is: SIGTERM, and SIGKILL for SIGUSR1."""

    def __init__(self, job: subprocess.Popen[bytes]) -> None:
        self._job = job
        self._last: tuple[int, int] | None = None  # the signal, and when, on the boot clock
        signal.signal(signal.SIGTERM, lambda *_: self._send(signal.SIGTERM))
        signal.signal(signal.SIGUSR1, lambda *_: self._send(signal.SIGKILL))
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def explain(self, exit_code: int, ended_boot_us: int) -> bool:
        """Whether the job's end is theirs."""
        if self._last is None:
            return False
        number, sent_us = self._last
        return is_ended_by(number, exit_code, (ended_boot_us - sent_us) / 1_000_000)

    def _send(self, number: int) -> None:
        if self._job.returncode is None:  # not waited for yet, so the group's number is still its own
            self._last = (number, boot_us())
            os.killpg(self._job.pid, number)


def _copy_output(job: subprocess.Popen[bytes], writer: LineWriter, folder: Path) -> int:
    """Until both pipes are closed, or soon after the job's end; all that it left behind is killed then.
    Answers when the job ended, on the boot clock."""
    ended_boot_us = 0
    pipes = {
        pipe.fileno(): (name, LineSplitter())
        for name, pipe in (("stdout", job.stdout), ("stderr", job.stderr))
        if pipe is not None
    }
    growing = GrowingFile(folder / "growing.json", {name: splitter.growing for name, splitter in pipes.values()})
    ended, deadline = os.pidfd_open(job.pid), math.inf
    with selectors.DefaultSelector() as selector:
        for descriptor in (*pipes, ended):
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            left = min(deadline - time.monotonic(), growing.due_in())
            for key, _ in selector.select(None if left == math.inf else max(left, 0.0)):
                if key.fd == ended:
                    ended_boot_us = boot_us()
                    selector.unregister(ended)
                    os.killpg(job.pid, signal.SIGKILL)  # not reaped yet, so the group is still its own
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # from here on they are waited for one by one
                    end_orphans(job.pid)
                    deadline = time.monotonic() + _AFTER_EXIT_SECONDS
                elif not _copy_some(key.fd, *pipes[key.fd], writer):
                    selector.unregister(key.fd)
            growing.write()
    for name, splitter in pipes.values():
        writer.write(name, splitter.flush())
    os.close(ended)
    return ended_boot_us


def _copy_some(descriptor: int, name: str, splitter: LineSplitter, writer: LineWriter) -> bool:
    """Whether there may be more."""
    data = os.read(descriptor, READ_BYTES)
    writer.write(name, splitter.feed(data))
    return bool(data)


def _close_standard_output() -> None:
    """Who waits at its other end reads its end; whether anybody still does is all the same."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _store(folder: Path, state: ProcessState) -> None:
    """All of it or nothing, and on the disk before anyone acts on it."""
    write_file(folder / "state.json", msgspec.json.encode(state))


def _is_stored(folder: Path, state: ProcessState) -> bool:
    """Also when nobody wants to know any more."""
    try:
        _store(folder, state)
    except OSError:
        return not folder.exists()
    return True


def _now() -> int:
    return time.time_ns() // 1_000


if __name__ == "__main__":
    if os.fork():  # so that the DMS has no child to wait for, and init reaps us
        os._exit(0)
    os.setsid()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])  # until the job runs
    supervise(Path(sys.argv[1]), msgspec.json.decode(sys.stdin.buffer.read(), type=dict[str, str]))
