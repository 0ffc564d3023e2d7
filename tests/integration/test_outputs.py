"""The output of jobs in files: nothing is lost or doubled by crashes, full disks, limits and readers that come late."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.adapters.outputs import files
from dms.adapters.outputs.files import TRUNCATED, FileOutputStore
from dms.application.ports import LogLine, OutputLine
from dms.errors import LogUnavailable, PeerMisbehaved

JOB = "0198c0de-0000-7000-8000-000000000000"
MARK = TRUNCATED.format(limit=1)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileOutputStore]:
    made = FileOutputStore(tmp_path / "logs", 1)
    yield made
    await made.close()


def said(*texts: str, stream: str = "stdout", at: int = 1) -> list[OutputLine]:
    return [OutputLine(stream, at, text) for text in texts]


async def everything(store: FileOutputStore, job_id: str = JOB, limit: int = 500) -> list[LogLine]:
    """Read in pages, as a client does."""
    found: list[LogLine] = []
    while page := await store.read(job_id, found[-1].seq if found else 0, limit):
        found += page
    return found


def path_of(tmp_path: Path, job_id: str = JOB) -> Path:
    return tmp_path / "logs" / f"{job_id}.ndjson"


async def reopened(store: FileOutputStore, tmp_path: Path) -> FileOutputStore:
    await store.close()
    return FileOutputStore(tmp_path / "logs", 1)


# --- crashes ---------------------------------------------------------------------------------------


async def test_a_line_torn_by_a_power_cut_at_any_byte_is_cut_off_and_written_again(
    store: FileOutputStore, tmp_path: Path
) -> None:
    await store.append(JOB, said("one", "zwei ü \x00 \u2028", "three"))
    whole = path_of(tmp_path).read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == 10]
    for cut in range(len(whole)):
        path_of(tmp_path).write_bytes(whole[:cut])
        again = FileOutputStore(tmp_path / "logs", 1)
        kept = sum(end <= cut for end in ends)
        assert await again.last(JOB) == kept
        await again.append(JOB, said("one", "zwei ü \x00 \u2028", "three")[kept:])
        assert path_of(tmp_path).read_bytes() == whole
        assert (await again.seal(JOB)).sha256 == sha256(whole).hexdigest()
        await again.close()


async def test_what_stands_behind_a_damaged_line_is_cut_off(store: FileOutputStore, tmp_path: Path) -> None:
    """It comes again from the engine or the peer, which both can give any line once more."""
    await store.append(JOB, said("one", "two", "three"))
    lines = path_of(tmp_path).read_bytes().splitlines(keepends=True)
    for damaged in (b"\x00" * 40 + b"\n", b"{}\n", lines[2], b'[2,"stdout"]\n'):
        path_of(tmp_path).write_bytes(lines[0] + damaged + lines[2])
        store = await reopened(store, tmp_path)
        assert [line.text for line in await everything(store)] == ["one"]
        assert path_of(tmp_path).read_bytes() == lines[0]


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """The kernel itself refuses to write a file beyond that size, after a part of it, as a full disk does."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


async def test_a_full_disk_loses_and_doubles_no_line(store: FileOutputStore, tmp_path: Path) -> None:
    await store.append(JOB, said("one", "two"))
    before = path_of(tmp_path).read_bytes()
    more = said("three", "four" * 100)
    with disk_full_at(len(before) + 60), pytest.raises(LogUnavailable, match="can't be written"):
        await store.append(JOB, more)
    assert path_of(tmp_path).read_bytes() == before
    assert await store.last(JOB) == 2
    await store.append(JOB, more)  # once there is room again
    assert [line.seq for line in await everything(store)] == [1, 2, 3, 4]
    sealed = await store.seal(JOB)
    assert (sealed.lines, sealed.sha256) == (4, sha256(path_of(tmp_path).read_bytes()).hexdigest())


# --- the limit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["x" * 1000, "\x00" * 1000, "ü" * 1000])
async def test_the_limit_is_of_the_bytes_on_the_disk_and_is_said_once(
    store: FileOutputStore, tmp_path: Path, text: str
) -> None:
    for _ in range(30):
        await store.append(JOB, said(*[text] * 100))
    lines = await everything(store)
    assert path_of(tmp_path).stat().st_size <= 1024 * 1024 + 200
    assert [line.text for line in lines].count(MARK) == 1
    assert (lines[-1].stream, lines[-1].text) == ("stderr", MARK)
    assert (await store.seal(JOB)).truncated
    store = await reopened(store, tmp_path)
    await store.append(JOB, said("later"))
    assert await store.last(JOB) == len(lines)
    assert (await store.seal(JOB)).truncated
    await store.close()


async def test_a_job_can_not_end_its_log_by_printing_the_mark(store: FileOutputStore) -> None:
    await store.append(JOB, [*said(MARK, stream="stderr"), *said("after it")])
    await store.append(JOB, said("and later"))
    assert [line.text for line in await everything(store)] == [MARK, "after it", "and later"]
    assert not (await store.seal(JOB)).truncated
    other = "0198c0de-0000-7000-8000-000000000001"  # the other side of the same job
    for line in await everything(store):
        await store.extend(other, [line])
    assert (await store.seal(other)).sha256 == (await store.seal(JOB)).sha256


async def test_both_sides_hold_the_same_bytes_also_of_a_truncated_output(tmp_path: Path) -> None:
    provider, requester = FileOutputStore(tmp_path / "cp", 1), FileOutputStore(tmp_path / "sp", 1)
    for number in range(40):
        await provider.append(JOB, said(*["y" * 997] * 50, at=number))
    for start in range(0, await provider.last(JOB), 77):
        await requester.extend(JOB, await provider.read(JOB, start, 77))
    assert await requester.seal(JOB) == await provider.seal(JOB)
    assert (await provider.seal(JOB)).truncated
    await provider.close()
    await requester.close()


# --- a peer's lines ----------------------------------------------------------------------------------


async def test_a_peer_may_repeat_lines_but_leave_out_none(store: FileOutputStore) -> None:
    lines = [LogLine(seq, "stdout", seq, f"line {seq}") for seq in range(1, 6)]
    await store.extend(JOB, lines[:3])
    await store.extend(JOB, lines[1:4])
    with pytest.raises(PeerMisbehaved, match="line 5 expected, line 6 came"):
        await store.extend(JOB, [LogLine(6, "stdout", 6, "line 6")])
    await store.extend(JOB, lines)
    assert await everything(store) == lines


# --- reading -----------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    after=st.integers(0, 6000),
    limit=st.integers(1, 3000),
    count=st.sampled_from([0, 1, 255, 256, 257, 4095, 4096, 4097, 5000]),
    fresh=st.booleans(),
)
def test_any_page_is_the_part_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, after: int, limit: int, count: int, fresh: bool
) -> None:
    """From memory or from the file, across the remembered offsets."""

    async def main() -> Sequence[LogLine]:
        folder = tmp_path_factory.mktemp("pages") / "logs"
        store = FileOutputStore(folder, 1)
        await store.append(JOB, [OutputLine("stdout", n, str(n)) for n in range(1, count + 1)])
        if fresh:
            await store.close()
            store = FileOutputStore(folder, 1)
        page = await store.read(JOB, after, limit)
        await store.close()
        return page

    assert [line.seq for line in asyncio.run(main())] == list(range(1, count + 1))[after : after + limit]


async def test_the_cursor_counts_all_lines_of_the_newest_stamp(store: FileOutputStore, tmp_path: Path) -> None:
    """Stamps tie, and do not ascend: to go on after a restart, the engine is asked from the stamp, less those."""
    assert await store.cursor(JOB) is None
    await store.append(JOB, [*said("a", at=5), *said("b", at=7), *said("c", at=5), *said("d", at=7)])
    for _ in range(2):
        cursor = await store.cursor(JOB)
        assert cursor is not None
        assert (cursor.time_ns, cursor.count) == (7, 2)
        store = await reopened(store, tmp_path)
    await store.close()


# --- bounds ----------------------------------------------------------------------------------------


async def test_open_files_and_lines_in_memory_are_bounded(
    store: FileOutputStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "OPEN_FILES", 8)
    jobs = [f"0198c0de-0000-7000-8000-{number:012}" for number in range(1, 41)]
    for job_id in jobs:
        await store.append(job_id, said(job_id))
    assert len(store._open) <= 9
    for job_id in jobs:
        assert [line.text for line in await everything(store, job_id)] == [job_id]
        assert (await store.seal(job_id)).lines == 1
    for _ in range(5):
        await store.append(JOB, said(*["x"] * 2000))
    assert len(store._open[JOB].recent) <= 2 * files.RECENT_LINES
    assert len(await everything(store)) == 10_000


async def test_a_waiting_reader_keeps_its_file_and_hears_of_each_line(
    store: FileOutputStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "OPEN_FILES", 4)
    waiting = asyncio.create_task(store.wait(JOB, 0))
    await asyncio.sleep(0)
    for number in range(20):
        await store.append(f"0198c0de-0000-7000-8000-{number:012}", said("other"))
    assert not waiting.done()
    await store.append(JOB, said("now"))
    async with asyncio.timeout(10):
        await waiting


async def test_a_sealed_digest_is_what_sha256sum_says(store: FileOutputStore, tmp_path: Path) -> None:
    await store.append(JOB, said("one", 'with "quotes" and ü', stream="stderr"))
    sealed = await store.seal(JOB)
    data = path_of(tmp_path).read_bytes()
    assert (sealed.lines, sealed.sha256, sealed.truncated) == (2, sha256(data).hexdigest(), False)
    assert [json.loads(line)[0] for line in data.splitlines()] == [1, 2]
    assert path_of(tmp_path).stat().st_mode & 0o777 == 0o600
    await store.drop(JOB)
    assert not path_of(tmp_path).exists()
    assert await store.last(JOB) == 0
