"""Archives that a malicious peer may send as a checkpoint: each is refused, in bounded memory and disk,
and nothing is ever written outside of the folder."""

from __future__ import annotations

import gzip
import io
import os
import resource
import struct
import tarfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.adapters.executors.pack import pack
from dms.adapters.executors.workspace_archive import DEPTH, ENTRIES, Owner, check_archive, unpack
from dms.adapters.executors.workspaces import Workspaces
from dms.errors import ArchiveRefused, ExecutorUnavailable

MIB = 1024 * 1024
Build = Callable[[tarfile.TarFile], None]


def member(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", link: str = "", mode: int = 0o644) -> Build:
    def build(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode, info.size = kind, link, mode, len(content)
        tar.addfile(info, io.BytesIO(content))

    return build


def archive(path: Path, *members: Build, form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w:gz", format=form) as tar:
        for build in members:
            build(tar)
    return path


def raw_header(name: bytes, size: int, kind: bytes = b"0") -> bytes:
    """A block with a size that needs not be true."""
    octal = b"%011o\0" % size if 0 <= size < 8**11 else b"\x80" + struct.pack(">3xQ", size)
    head = name.ljust(100, b"\0") + b"0000644\0" * 3 + octal + b"00000000000\0" + b" " * 8 + kind
    head = head.ljust(257, b"\0") + b"ustar\x0000" + bytes(248)
    head = head[:512].ljust(512, b"\0")
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


FOLDER = member("workspace", tarfile.DIRTYPE, mode=0o755)
HOSTILE: dict[str, tuple[tuple[Build, ...], str]] = {
    "parent": ((FOLDER, member("workspace/../../evil", content=b"x")), "leaves its folder"),
    "parent in the middle": ((member("workspace/a/../b", content=b"x"),), "leaves its folder"),
    "absolute": ((member("/etc/evil", content=b"x"),), "absolute name"),
    "outside": ((member("elsewhere/x", content=b"x"),), "outside"),
    "symbolic link": ((member("workspace/l", tarfile.SYMTYPE, link="/etc"),), "symbolic link"),
    "link then through it": (
        (member("workspace/l", tarfile.SYMTYPE, link="/tmp"), member("workspace/l/x", content=b"x")),
        "symbolic link",
    ),
    "hard link": ((member("workspace/l", tarfile.LNKTYPE, link="/etc/passwd"),), "hard link"),
    "device": ((member("workspace/d", tarfile.CHRTYPE),), "a device"),
    "block device": ((member("workspace/d", tarfile.BLKTYPE),), "a device"),
    "pipe": ((member("workspace/f", tarfile.FIFOTYPE),), "a pipe"),
    "unknown type": ((member("workspace/f", b"Z"),), "unknown type"),
    "twice": ((member("workspace/a", content=b"1"), member("workspace/a", content=b"2")), "twice"),
    "twice, spelt differently": ((member("workspace/a"), member("workspace//./a")), "twice"),
    "file then folder": ((member("workspace/a"), member("workspace/a", tarfile.DIRTYPE)), "twice"),
    "inside of a file": ((member("workspace/a"), member("workspace/a/b")), "inside of a file"),
    "folder turned file": ((member("workspace/a/b"), member("workspace/a")), "twice"),
    "the workspace is a file": ((member("workspace", content=b"x"),), "not a folder"),
    "too deep": ((member("workspace/" + "d/" * DEPTH + "x"),), "deeper"),
    "too long a part": ((member("workspace/" + "n" * 256),), "part longer than 255"),
    "too large": ((member("workspace/big", content=os.urandom(MIB + 1)),), "larger than 1 MiB"),
    "too large together": (
        tuple(member(f"workspace/{n}", content=os.urandom(400_000)) for n in range(3)),
        "larger than 1 MiB",
    ),
    "no text": ((member("workspace/\udcff\udcfe"),), "not UTF-8"),
}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_with_the_reason(tmp_path: Path, case: str, form: int) -> None:
    members, reason = HOSTILE[case]
    made = archive(tmp_path / "x.tar.gz", *members, form=form)
    target = tmp_path / "in" / "workspace"
    target.mkdir(parents=True)
    with pytest.raises(ArchiveRefused, match=reason):
        check_archive(made, MIB)
    with pytest.raises(ArchiveRefused, match=reason):
        unpack(made, target, MIB)
    assert {path.name for path in tmp_path.rglob("*") if target not in path.parents} == {"x.tar.gz", "in", "workspace"}


def gzipped(*parts: bytes) -> bytes:
    return gzip.compress(b"".join(parts))


def zeros(count_mib: int, *before: bytes) -> bytes:
    """A gzip member of so many MiB of zeros behind `before`, without holding them."""
    packer = zlib.compressobj(9, wbits=31)
    block = bytes(MIB)
    return b"".join(
        [*map(packer.compress, before), *(packer.compress(block) for _ in range(count_mib)), packer.flush()]
    )


END = bytes(1024)
BYTES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "ends too early"),
    "no gzip": (lambda: b"PK\3\4" * 100, "not a gzip"),
    "no tar": (lambda: gzipped(b"hello" * 300), "not a tar"),
    "cut gzip": (
        lambda: gzipped(raw_header(b"workspace/a", 5), b"12345".ljust(512, b"\0"), END)[:-20],
        "ends too early",
    ),
    "cut tar": (lambda: gzipped(raw_header(b"workspace/a", 5_000), b"12345"), "ends too early"),
    "no end": (lambda: gzipped(raw_header(b"workspace/a", 0)), "ends too early"),
    "hidden second archive": (
        lambda: gzipped(raw_header(b"workspace/a", 0), END) + gzipped(raw_header(b"workspace/b", 0), END),
        "more behind",
    ),
    "hidden behind the end": (lambda: gzipped(END, raw_header(b"workspace/b", 0), END), "more behind"),
    "negative size": (
        lambda: gzipped(raw_header(b"workspace/a", 0)[:124] + b"\xff" * 12 + bytes(376), END),
        "not a tar|negative",
    ),
    "huge size": (lambda: gzipped(raw_header(b"workspace/a", 2**60), END), "larger than"),
    "huge pax header": (lambda: zeros(4, raw_header(b"x", 2**40, b"x")), "header has"),
    "huge GNU name": (lambda: zeros(4, raw_header(b"././@LongLink", 2**33, b"L")), "header has"),
    "pax header of nonsense": (
        lambda: gzipped(raw_header(b"x", 512, b"x"), b"999999 path=x".ljust(512, b"x"), END),
        "pax",
    ),
    "pax size": (
        lambda: gzipped(
            raw_header(b"x", 512, b"x"), b"13 size=9e99\n".ljust(512, b"\0"), raw_header(b"workspace/a", 0), END
        ),
        "can't be read",
    ),
    "folder with content": (
        lambda: gzipped(raw_header(b"workspace/a/", 512, b"5"), bytes(512), END),
        "folder with content",
    ),
    "bomb": (lambda: zeros(80, raw_header(b"workspace/a", 80 * MIB)), "larger than"),
    "bomb behind the end": (lambda: zeros(80, END), "more behind"),
    "nothing but headers": (
        lambda: gzipped(
            *(raw_header(b"x", 12, b"x") + b"12 mtime=1\n ".ljust(512, b"\0") for _ in range(2 * ENTRIES + 1))
        ),
        "entries|pax",
    ),
}


@pytest.mark.parametrize("case", BYTES)
@pytest.mark.slow
def test_broken_bytes_are_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    made, reason = BYTES[case]
    (tmp_path / "x.tar.gz").write_bytes(made())
    with pytest.raises(ArchiveRefused, match=reason):
        check_archive(tmp_path / "x.tar.gz", MIB)


@pytest.mark.slow
def test_more_entries_than_a_workspace_can_have_are_refused(tmp_path: Path) -> None:
    blocks = (raw_header(b"workspace/%d" % n, 0) for n in range(ENTRIES + 1))
    (tmp_path / "x.tar.gz").write_bytes(gzipped(*blocks, END))
    with pytest.raises(ArchiveRefused, match="entries"):
        check_archive(tmp_path / "x.tar.gz", MIB)


@pytest.mark.slow
def test_a_bomb_is_refused_by_its_ratio_in_little_memory(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(zeros(600, raw_header(b"workspace/a", 600 * MIB)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArchiveRefused, match="times its size"):
        check_archive(tmp_path / "x.tar.gz", 1024 * MIB)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # kB


def test_what_the_packer_made_of_zeros_is_taken_back(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    with (source / "zeros").open("wb") as file:
        file.truncate(100 * MIB)
    assert pack(source, tmp_path / "x.tar.gz", 200 * MIB, "", threading.Event()) is not None
    assert unpack(tmp_path / "x.tar.gz", target, 200 * MIB).size_bytes == 100 * MIB


def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path / "small", "")
    try:
        full = workspaces.make("job", 16, None, 0, Owner(0, 0))  # a disk of 16 MiB
        (tmp_path / "source").mkdir()
        (tmp_path / "source" / "a").write_text("1")
        with pytest.raises(ExecutorUnavailable, match="no room"):
            pack(tmp_path / "source", full / "x.tar.gz", MIB, "", threading.Event())
        assert list(full.iterdir()) == []
    finally:
        workspaces.remove("job")


def test_rights_are_masked_and_the_owner_is_the_jobs(tmp_path: Path) -> None:
    members = (
        member("./workspace/run", content=b"x", mode=0o6777),
        member("./workspace/sub", tarfile.DIRTYPE, mode=0o1000),
        member("./workspace/sub/none", mode=0o000),
    )
    made = archive(tmp_path / "x.tar.gz", *members)
    target = tmp_path / "target"
    target.mkdir()
    unpack(made, target, MIB, Owner(65532, 65532))
    modes = {path.name: (path.stat().st_mode & 0o7777, path.stat().st_uid) for path in target.rglob("*")}
    assert modes == {"run": (0o777, 65532), "sub": (0o700, 65532), "none": (0o600, 65532)}


def test_an_archive_of_gnu_tar_is_taken(tmp_path: Path) -> None:
    name = "workspace/" + "long/" * 30 + "file"
    made = archive(tmp_path / "x.tar.gz", member(name, content=b"here"), form=tarfile.GNU_FORMAT)
    target = tmp_path / "target"
    target.mkdir()
    unpack(made, target, MIB)
    assert (target / name.removeprefix("workspace/")).read_bytes() == b"here"


# --- whatever is sent -----------------------------------------------------------------------------
PARTS = st.sampled_from(["workspace", "..", ".", "", "a", "b", "é", "c" * 300, "\udcff", "\0"])
NAMES = st.builds("/".join, st.lists(PARTS, max_size=6)).flatmap(
    lambda rest: st.sampled_from([rest, f"workspace/{rest}", f"/{rest}", f"./workspace/{rest}"])
)
KINDS = st.sampled_from([b"0", b"\0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"x", b"g", b"L", b"K", b"?"])
BLOCKS = st.tuples(NAMES, KINDS, st.binary(max_size=700), st.integers(-1, 2**63))


def written(blocks: list[tuple[str, bytes, bytes, int]], honest: bool) -> bytes:
    found = b""
    for name, kind, content, size in blocks:
        told = len(content) if honest else max(size, 0)
        found += raw_header(name.encode("utf-8", "surrogateescape")[:100], told, kind)
        found += content.ljust(-(-len(content) // 512) * 512, b"\0")
    return gzipped(found, END)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(blocks=st.lists(BLOCKS, max_size=8), honest=st.booleans())
@pytest.mark.slow
def test_no_archive_writes_outside_or_leaves_anything_but_plain_files(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[str, bytes, bytes, int]], honest: bool
) -> None:
    outer = tmp_path_factory.mktemp("outer")
    target = outer / "in" / "target"
    target.mkdir(parents=True)
    made = outer / "x.tar.gz"
    made.write_bytes(written(blocks, honest))
    try:
        told = unpack(made, target, 4096)
    except ArchiveRefused:
        told = None
    for path in outer.rglob("*"):
        assert path in (made, target, target.parent) or target in path.parents
        assert not path.is_symlink()
        assert path.is_file() or path.is_dir()
        assert path.stat().st_nlink == 1 or path.is_dir()
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    assert size <= 4096
    assert told is None or told.size_bytes == size


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bytes_are_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("flips")
    made = archive(folder / "x.tar.gz", FOLDER, member("workspace/a", content=b"abc"), member("workspace/b/c"))
    data = bytearray(made.read_bytes())
    for at, bits in flips:
        data[at % len(data)] ^= bits
    made.write_bytes(data)
    target = folder / "target"
    target.mkdir()
    try:
        unpack(made, target, 4096)
    except ArchiveRefused:
        return
    assert {path.name for path in target.rglob("*")} == {"a", "b", "c"}


NAMES_KEPT = st.lists(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1, max_size=40).filter(
        lambda name: name not in (".", "..") and len(name.encode()) < 200
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(st.tuples(NAMES_KEPT, st.binary(max_size=2000)), min_size=1, max_size=6))
def test_every_workspace_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[list[str], bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    source, target = folder / "source", folder / "target"
    source.mkdir()
    target.mkdir()
    for parts, content in files:
        path = source.joinpath(*parts)
        if not any(above.is_file() for above in path.parents) and not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    assert pack(source, folder / "x.tar.gz", MIB, "", threading.Event()) is not None
    unpack(folder / "x.tar.gz", target, MIB)
    assert tree(target) == tree(source)


def tree(root: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(root)): (
            path.stat().st_mode,
            int(path.stat().st_mtime),
            path.read_bytes() if path.is_file() else b"",
        )
        for path in root.rglob("*")
    }
