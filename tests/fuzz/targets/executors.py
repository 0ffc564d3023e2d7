"""What the container engine and the containers say, and what archives hold that strangers made."""

from __future__ import annotations

import io
import shutil
import threading
from pathlib import Path
from typing import Any

import msgspec

from dms.adapters.executors import input_content, pack_stream, process
from dms.adapters.executors.archive_writer import Changed
from dms.adapters.executors.canary_program import _names_in
from dms.adapters.executors.containers import microseconds
from dms.adapters.executors.engine import EngineAnswer, _status
from dms.adapters.executors.engine_attach import _Frames
from dms.adapters.executors.engine_exec import ExecStream
from dms.adapters.executors.engine_memory import EngineMemory, _event
from dms.adapters.executors.engine_stats import usage_in
from dms.adapters.executors.gateway_rules import differs
from dms.adapters.executors.growing import KEPT_BYTES, GrowingText
from dms.adapters.executors.helper_image import is_static
from dms.adapters.executors.lines import LINE_BYTES
from dms.adapters.executors.output import Dechunker, FrameReader, LineAssembler
from dms.adapters.executors.process_watch import shown_in
from dms.adapters.executors.pulls import Pull, _take
from dms.adapters.executors.registries import _read
from dms.adapters.executors.workspace_archive import ArchiveReader, unpack
from dms.application.ports.executor import InputFile
from dms.domain.image import ImageReference, host_of, is_inner, parse_image
from dms.domain.image_patterns import allows, check_pattern, first_match, names_its_registry
from dms.domain.metrics import Metrics, figures_of
from dms.errors import (
    ArchiveRefused,
    ExecutionError,
    ExecutorUnavailable,
    ImageUnavailable,
    InvalidInput,
    RegistryUnavailable,
)
from tests.fuzz.made import gzipped, tarred, zipped
from tests.fuzz.target import Target, scratch, split, written
from tests.fuzz.targets.peers import driven

MOST_BYTES = 1 << 20
IMAGE = parse_image("busybox")


# --- archives -----------------------------------------------------------------------------------------
def emptied(name: str) -> Path:
    folder = scratch() / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def nothing_else(folder: Path) -> None:
    """Only files and folders, and no more bytes than were allowed."""
    found = list(folder.rglob("*"))
    assert not any(path.is_symlink() for path in found)
    assert sum(path.stat().st_size for path in found if path.is_file()) <= MOST_BYTES


def workspace(data: bytes) -> None:
    """Unpacked: a tar.gz."""
    target = emptied("workspace")
    try:
        unpack(written(data), target, MOST_BYTES)
    finally:
        nothing_else(target)


def workspace_tar(data: bytes) -> None:
    """Without the compression, which random changes do not get through."""
    reader = ArchiveReader(io.BytesIO(data), MOST_BYTES, zipped=False)
    for entry in reader.entries():
        assert ".." not in entry.parts
        assert sum(map(len, reader.chunks())) == entry.size <= MOST_BYTES


def input_of(kind: str, data: bytes) -> None:
    target, stage = emptied("inputs"), scratch() / "stage"
    try:
        given = InputFile(number=1, source=written(data), place="a/b", unpack=kind, max_bytes=MOST_BYTES)
        input_content.place_input(target, stage, emptied("marks"), given, None, threading.Event())
    finally:
        nothing_else(target)


def packed(data: bytes) -> None:
    """What the helper reads of a stranger's workspace, as a tar."""
    stream: Any = _Pieces(data)
    spool = io.BytesIO()
    for item in pack_stream._TarSpool(stream, spool, MOST_BYTES, threading.Event()).entries():
        assert ".." not in item.parts
    assert spool.tell() <= MOST_BYTES


def listed(data: bytes) -> None:
    """And as a list."""
    stream: Any = _Pieces(data)
    for line in pack_stream._lines(stream, threading.Event()):
        seen = pack_stream._seen(line)
        if seen is not None and pack_stream._is_taken(seen):
            assert ".." not in seen.parts


class _Pieces:
    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def read(self, most: int) -> bytes:
        return self._rest.read(most)


# --- the engine's streams -----------------------------------------------------------------------------
def output(data: bytes) -> None:
    """A container's log: chunks, frames, lines."""
    chunks, records, lines = Dechunker(), FrameReader(), LineAssembler()
    for piece in split(data):
        told = lines.feed(records.feed(chunks.feed(piece)))
        assert all(len(line.text.encode()) <= LINE_BYTES for line in told)
    lines.flush()


def output_frames(data: bytes) -> None:
    """The same, behind HTTP."""
    records, lines, frames = FrameReader(), LineAssembler(), _Frames()
    growing = GrowingText()
    for piece in split(data):
        for _, part in frames.feed(piece):
            growing.feed(part)
            assert len(growing.shown.encode()) <= 4 * KEPT_BYTES
        assert all(len(line.text.encode()) <= LINE_BYTES for line in lines.feed(records.feed(piece)))
    lines.flush()


class _Socket:
    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def recv(self, _most: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def program(data: bytes) -> None:
    """What a program started in a container says."""
    connection: Any = _Socket([piece for piece in split(data) if piece])
    stream = ExecStream(connection, b"")
    while stream.read(4096):
        pass
    assert isinstance(stream.errors, str)


def engine_event(data: bytes) -> None:
    memory = EngineMemory("node", None, None)  # type: ignore[arg-type]  # it is not asked for anything
    for line in data.split(b"\n"):
        told = memory._decoded(line)
        memory._keep(told)
        _event(told)


def pulled(data: bytes) -> None:
    state = Pull()
    for line in data.split(b"\n"):
        _take(line, IMAGE, 100, state)
    done, total = state.megabytes()
    assert done >= 0
    assert total <= 100


class _Reader:
    """Of asyncio's streams, as much as is read."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    async def read(self, most: int) -> bytes:
        return self._rest.read(most)


def refusal(data: bytes) -> None:
    reader: Any = _Reader(data)
    assert isinstance(driven(EngineAnswer(reader, 500).refusal()), str)
    _status(data, "/path")


def json_of_engine(data: bytes) -> dict[str, Any]:
    """As the SDK gives it: any JSON object."""
    try:
        found = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ExecutorUnavailable(str(error)) from error
    return found


def stats(data: bytes) -> None:
    usage_in(json_of_engine(data), 0.0)


def manifest(data: bytes) -> None:
    """What the engine tells of an image at a registry."""
    _read(IMAGE, json_of_engine(data), {"Arch": "amd64"})


def stamp(data: bytes) -> None:
    microseconds(data.decode("utf-8", "replace"))


# --- texts --------------------------------------------------------------------------------------------
def image(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    pattern, _, name = text.partition("\n")
    names_its_registry(pattern)
    first_match([pattern], IMAGE, set())
    try:
        check_pattern(pattern)
    except InvalidInput:
        pass
    else:
        allows([pattern], IMAGE, set())
    found = parse_image(name or pattern)
    is_inner(found.registry), host_of(found.registry)
    assert parse_image(str(found)) == found, "its own text means another image"
    assert isinstance(found, ImageReference)


def figures(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    step, values = figures_of(text)
    assert step is None or step >= 0
    metrics = Metrics()
    metrics.take((line, 0) for line in text.split("\n"))
    assert len(metrics.series) <= 64
    assert len(values) <= len(text)


def rules(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    assert not differs(text, text)
    differs(text, "*filter\n:INPUT DROP [0:0]\nCOMMIT\n")


def folder_of_kernel(data: bytes) -> None:
    """What the test container read of a folder; the first byte is taken for how much that was."""
    assert all(isinstance(name, str) for name in _names_in(data[1:], data[0] if data else 0))


# --- files of the process executor ----------------------------------------------------------------------
def process_files(data: bytes) -> None:
    folder = scratch() / "process"
    folder.mkdir(exist_ok=True)
    for name in ("spec.json", "state.json"):
        (folder / name).write_bytes(data)
    process._stored_spec(folder), process._stored_state(folder), shown_in(written(data))
    own: Any = process.ProcessExecutor.__new__(process.ProcessExecutor)
    own._decoder = msgspec.json.Decoder(tuple[str, int, str])
    own._line(data)
    is_static(data)


_TREE = {"workspace/": None, "workspace/a.txt": b"some text\n" * 20, "workspace/b/c": b""}
_FRAME = b"\x01\x00\x00\x00\x00\x00\x00\x24" + b"2026-01-02T03:04:05.000000000Z hello\n"[:36]
_EVENT = (
    b'{"Action":"die","Actor":{"ID":"c","Attributes":{"exitCode":"1","signal":"9","org.nunet.dms.job":"j"}},'
    b'"timeNano":1700000000000000000}'
)
_ARCHIVE = (ArchiveRefused, ExecutionError, ExecutorUnavailable)
_ENTRY = b"\0" * 16 + b"\x18\0\x04name\0"  # as getdents64 has it
TARGETS = (
    Target("folders", folder_of_kernel, (), (b"\x30" + _ENTRY * 2,)),
    Target("workspaces", workspace, _ARCHIVE, (gzipped(tarred(_TREE)),)),
    Target("workspace-tars", workspace_tar, _ARCHIVE, (tarred(_TREE), tarred({"workspace/" + "n" * 200: b"x"}))),
    Target("input-zips", lambda data: input_of("zip", data), _ARCHIVE, (zipped(_TREE), zipped({"x": b"y" * 900}))),
    Target("input-tars", lambda data: input_of("tar", data), _ARCHIVE, (tarred(_TREE),)),
    Target("packed-tars", packed, (*_ARCHIVE, Changed), (tarred(_TREE), tarred(_TREE) * 2)),
    Target("packed-lists", listed, _ARCHIVE, (b"12 81a4 5 100 101 ./a\n13 41ed 0 100 101 ./b\n",)),
    Target("engine-output", output, (ExecutorUnavailable,), (b"\x20" + b"2c\r\n" + _FRAME + b"\r\n0\r\n\r\n",)),
    Target("engine-frames", output_frames, (ExecutorUnavailable,), (b"\x08" + _FRAME * 3,)),
    Target("engine-programs", program, (ExecutorUnavailable,), (b"\x08" + _FRAME, b"\x08\x02\0\0\0\0\0\0\x02no")),
    Target("engine-events", engine_event, (ExecutorUnavailable,), (_EVENT, _EVENT.replace(b"die", b"kill"))),
    Target(
        "engine-pulls",
        pulled,
        (ImageUnavailable, ExecutorUnavailable, RegistryUnavailable),
        (
            b'{"status":"Downloading","id":"a","progressDetail":{"current":1}}\n{"status":"Pull complete","id":"a"}',
            b'{"error":"manifest unknown"}',
            b'{"error":"toomanyrequests"}',
        ),
    ),
    Target(
        "engine-refusals",
        refusal,
        (ExecutorUnavailable,),
        (b'{"message":"no"}', b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ),
    Target(
        "engine-stats",
        stats,
        (ExecutorUnavailable,),
        (
            b'{"memory_stats":{"usage":9,"stats":{"inactive_file":1}},"cpu_stats":{"cpu_usage":{"total_usage":5}}}',
            b'{"memory_stats":{}}',
        ),
    ),
    Target(
        "manifests",
        manifest,
        (ExecutorUnavailable,),
        (b'{"Descriptor":{"digest":"sha256:0"},"Platforms":[{"architecture":"amd64","os":"linux"}]}',),
    ),
    Target("engine-times", stamp, (ExecutorUnavailable,), (b"2026-01-02T03:04:05.000000000Z", b"0001-01-01T00:00:00Z")),
    Target(
        "images",
        image,
        (InvalidInput,),
        (
            b"busybox",
            b"ghcr.io/nunet/*\nghcr.io/nunet/a:1",
            b"*\n[::1]:5000/a/b@sha256:" + b"0" * 64,
            b"a.b:70000/c:T",
            b"sha256:" + b"0" * 64 + b"\nx",
        ),
    ),
    Target("figures", figures, (), (b"dms-metric loss=0.25 step=3 a=1e999", b"dms-metric x=nan\ndms-metric y=-1_0")),
    Target(
        "gateway-rules",
        rules,
        (),
        (b"*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n",),
    ),
    Target(
        "process-files",
        process_files,
        (),
        (b'{"supervisor_pid":1,"started_at":2}', b'["stdout",1,"x"]', b"\x7fELF\x02"),
    ),
)
