"""Archives that a malicious requester may name as an input: each is refused, in bounded memory and disk, and nothing is
ever written outside of the folder."""

from __future__ import annotations

import io
import itertools
import stat
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.adapters.executors.input_content import place_input
from dms.adapters.executors.workspace_archive import ENTRIES
from dms.application.ports.executor import InputFile
from dms.errors import ArchiveRefused, ExecutionError, ExecutorUnavailable

MIB = 1024 * 1024
NUMBERS = itertools.count(1)
Build = Callable[[zipfile.ZipFile], None]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "job" / "workspace"
    folder.mkdir(parents=True)
    return folder


def put(workspace: Path, source: Path, kind: str, place: str = "in", max_bytes: int = MIB) -> None:
    place_given(
        workspace, InputFile(number=next(NUMBERS), source=source, place=place, unpack=kind, max_bytes=max_bytes)
    )


def place_given(workspace: Path, given: InputFile, stopped: threading.Event | None = None) -> None:
    job = workspace.parent
    place_input(workspace, job / "incoming", job / "inputs", given, None, stopped or threading.Event())


def left(workspace: Path) -> list[str]:
    """All that is beside the workspace, and in it."""
    top = workspace.parent.parent
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.name != "given")


def entry(name: str, content: bytes = b"x", mode: int = stat.S_IFREG | 0o644) -> Build:
    def build(made: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        made.writestr(info, content)

    return build


def zipped(path: Path, *builds: Build, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as made:
        for build in builds:
            build(made)
    return path


def bomb(made: zipfile.ZipFile) -> None:
    made.writestr("zeros", bytes(80 * MIB), zipfile.ZIP_DEFLATED)


HOSTILE_ZIPS: dict[str, tuple[tuple[Build, ...], str]] = {
    "parent": ((entry("../evil"),), "leaves its folder"),
    "parent in the middle": ((entry("a/../../evil"),), "leaves its folder"),
    "absolute": ((entry("/etc/evil"),), "absolute"),
    "backslash": ((entry("..\\evil"),), "backslash"),
    "link": ((entry("link", b"/etc", stat.S_IFLNK | 0o777), entry("link/evil")), "a link"),
    "device": ((entry("null", b"", stat.S_IFCHR | 0o666),), "a link, a device"),
    "twice": ((entry("a"), entry("./a")), "twice"),
    "inside of a file": ((entry("a"), entry("a/b")), "inside of a file"),
    "long name": ((entry("a" * 256),), "longer"),
    "deep": ((entry("d/" * 65 + "x"),), "deeper"),
    "bomb": ((bomb,), "larger than 1 MiB"),
    "much": (tuple(entry(str(number), bytes(600_000)) for number in range(2)), "larger than 1 MiB"),
}


@pytest.mark.parametrize("case", HOSTILE_ZIPS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_zip_is_refused_and_leaves_nothing(workspace: Path, tmp_path: Path, case: str) -> None:
    builds, reason = HOSTILE_ZIPS[case]
    with pytest.raises(ArchiveRefused, match=reason):
        put(workspace, zipped(tmp_path / "given", *builds), "zip")
    assert left(workspace) == ["job", "job/workspace"]


def test_a_zip_that_unpacks_to_far_more_than_its_size_is_refused(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused, match="far more than its size"):
        put(workspace, zipped(tmp_path / "given", bomb), "zip", max_bytes=1000 * MIB)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_may_take_any_memory_is_refused(workspace: Path, tmp_path: Path, compression: int) -> None:
    with pytest.raises(ArchiveRefused, match="compressed in a way"):
        put(
            workspace, zipped(tmp_path / "given", lambda made: made.writestr("a", b"x"), compression=compression), "zip"
        )


def test_an_encrypted_entry_is_refused(workspace: Path, tmp_path: Path) -> None:
    path = zipped(tmp_path / "given", entry("a"))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveRefused, match="encrypted"):
        put(workspace, path, "zip")


@pytest.mark.parametrize(("entries", "size"), [(ENTRIES + 1, 100), (1, 2**31)])
def test_a_table_of_contents_is_bounded_before_it_is_read(
    workspace: Path, tmp_path: Path, entries: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large ones are told by the larger record."""
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, size, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    (tmp_path / "given").write_bytes(record + locator + end)
    monkeypatch.setattr(zipfile, "ZipFile", None)  # it would read it
    with pytest.raises(ArchiveRefused, match="more than"):
        put(workspace, tmp_path / "given", "zip")


def test_a_file_that_is_damaged_is_refused(workspace: Path, tmp_path: Path) -> None:
    path = zipped(tmp_path / "given", entry("a", bytes(range(256)) * 100))
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ArchiveRefused, match="can't be read"):
        put(workspace, path, "zip")
    assert left(workspace) == ["job", "job/workspace"]


def tar_with(path: Path, info: tarfile.TarInfo, mode: str, content: bytes = b"") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # of two modes
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(("kind", "mode"), [("tar", "w"), ("tar.gz", "w:gz")])
@pytest.mark.parametrize(
    ("name", "type_", "reason"),
    [
        ("../evil", tarfile.REGTYPE, "leaves its folder"),
        ("/etc/evil", tarfile.REGTYPE, "absolute"),
        ("link", tarfile.SYMTYPE, "symbolic link"),
        ("hard", tarfile.LNKTYPE, "hard link"),
        ("null", tarfile.CHRTYPE, "device"),
        ("pipe", tarfile.FIFOTYPE, "pipe"),
    ],
)
def test_a_hostile_tar_is_refused_and_leaves_nothing(
    workspace: Path, tmp_path: Path, kind: str, mode: str, name: str, type_: bytes, reason: str
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type_, "/etc/passwd"
    with pytest.raises(ArchiveRefused, match=reason):
        put(workspace, tar_with(tmp_path / "given", info, mode), kind)
    assert left(workspace) == ["job", "job/workspace"]


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_what_is_no_such_archive_is_refused(workspace: Path, tmp_path: Path, kind: str) -> None:
    for content in (b"", b"x", b"x" * 5000, bytes(5000), b"\x1f\x8b" + bytes(100), b"PK\x05\x06", b"PK\x03\x04" * 50):
        (tmp_path / "given").write_bytes(content)
        try:
            put(workspace, tmp_path / "given", kind, f"in{len(content)}")
        except ArchiveRefused:
            continue
        assert (kind, content) == ("tar", bytes(5000))  # the end of a tar, and nothing before it


@given(data=st.binary(max_size=600), at=st.integers(0, 400), kind=st.sampled_from(["tar", "tar.gz", "zip"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_damaged_is_refused_or_stays_inside(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int, kind: str
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    workspace = folder / "job" / "workspace"
    workspace.mkdir(parents=True)
    if kind == "zip":
        zipped(folder / "given", entry("a/b", b"content"), entry("c"))
    else:
        tar_with(folder / "given", tarfile.TarInfo("a/b"), "w" if kind == "tar" else "w:gz", b"content")
    whole = bytearray((folder / "given").read_bytes())
    whole[at : at + len(data)] = data
    (folder / "given").write_bytes(whole)
    try:
        put(workspace, folder / "given", kind)
    except (ArchiveRefused, ExecutionError, ExecutorUnavailable):
        assert left(workspace) == ["job", "job/workspace"]
    else:
        assert all(path.startswith(("job/workspace/in", "job")) for path in left(workspace))


def test_no_link_on_the_way_is_followed(workspace: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (workspace / "data").symlink_to(outside)
    (tmp_path / "given").write_bytes(b"x")
    with pytest.raises(ExecutionError, match="data/x"):
        put(workspace, tmp_path / "given", "", "data/x")
    with pytest.raises(ExecutionError, match="data"):
        put(workspace, zipped(tmp_path / "given.zip", entry("a")), "zip", "data")
    put(workspace, tmp_path / "given", "", "data")  # in the link's place
    assert list(outside.iterdir()) == []
    assert not (workspace / "data").is_symlink()
    assert (workspace / "data").read_bytes() == b"x"


def test_no_link_in_a_folder_that_is_there_is_followed(workspace: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (workspace / "in").mkdir()
    (workspace / "in" / "folder").symlink_to(outside)
    (workspace / "in" / "file").symlink_to(outside / "file")
    with pytest.raises(ExecutionError, match="in can't be put"):
        put(workspace, zipped(tmp_path / "given.zip", entry("folder/a")), "zip")
    put(workspace, zipped(tmp_path / "given.zip", entry("file")), "zip")
    assert list(outside.iterdir()) == []
    assert (workspace / "in" / "file").read_bytes() == b"x"


def test_who_waits_no_more_ends_the_filling(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(bytes(MIB))
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(ExecutorUnavailable):
        place_given(
            workspace, InputFile(number=1, source=tmp_path / "given", place="in", unpack="", max_bytes=MIB), stopped
        )
    assert left(workspace) == ["job", "job/workspace"]
