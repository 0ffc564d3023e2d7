"""The output of jobs in files: nothing is lost or doubled by crashes, full disks, limits and readers that come late."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from dms.adapters.outputs import files, sealed
from dms.adapters.outputs.audit import check_outputs
from dms.adapters.outputs.files import FileOutputStore
from dms.adapters.outputs.sealed import FileState, file_state
from dms.application.ports.outputs import OUTPUT_DAMAGED, OUTPUT_TRUNCATED, LogLine, OutputLine, SealedLog
from dms.errors import LogUnavailable, OutputUnavailable, PeerMisbehaved
from tests.fixtures.disks import disk_full_at

JOB = "0198c0de-0000-7000-8000-000000000000"
MARK = OUTPUT_TRUNCATED.format(limit=1)


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


def kept_aside(tmp_path: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((tmp_path / "logs").glob("*.damaged-*"))]


async def test_what_stands_behind_a_damaged_line_is_kept_aside_before_more_is_written(
    store: FileOutputStore, tmp_path: Path
) -> None:
    """It comes again from the engine or the peer, which both can give any line once more. Reading changes nothing."""
    await store.append(JOB, said("one", "two", "three"))
    whole = path_of(tmp_path).read_bytes()
    lines = whole.splitlines(keepends=True)
    set_aside = []
    for damaged in (b"\x00" * 40 + b"\n", b"{}\n", lines[2], b'[2,"stdout"]\n', b'[2,"std', b"\x00" * 40):
        rest = damaged + lines[2] if damaged.endswith(b"\n") else damaged
        path_of(tmp_path).write_bytes(lines[0] + rest)
        store = await reopened(store, tmp_path)
        torn = damaged == b'[2,"std'
        assert [line.text for line in await everything(store)] == ["one"]
        assert ("behind line 1" in await store.damage(JOB)) == (not torn)
        assert path_of(tmp_path).read_bytes() == lines[0] + rest
        await store.append(JOB, said("two", "three"))
        assert path_of(tmp_path).read_bytes() == whole
        assert await store.damage(JOB) == ""
        set_aside += [] if torn else [rest]
        assert kept_aside(tmp_path) == set_aside
    assert await store.drop(JOB)
    assert kept_aside(tmp_path) == []
    await store.close()


async def test_an_end_that_can_not_be_read_is_no_part_of_what_is_sealed(store: FileOutputStore, tmp_path: Path) -> None:
    await store.append(JOB, said("one"))
    whole = path_of(tmp_path).read_bytes()
    path_of(tmp_path).write_bytes(whole + b"rubbish\n")
    store = await reopened(store, tmp_path)
    sealed = await store.seal(JOB)
    assert (sealed.lines, sealed.sha256) == (1, sha256(whole).hexdigest())
    assert (path_of(tmp_path).read_bytes(), kept_aside(tmp_path)) == (whole, [b"rubbish\n"])
    await store.close()


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


# --- files that somebody else removes ----------------------------------------------------------------


REMOVALS: dict[str, Callable[[Path], object]] = {
    "the folder": lambda path: shutil.rmtree(path.parent),
    "the file": lambda path: path.unlink(),
    "another file in its place": lambda path: (path.rename(path.with_name("x")), path.write_bytes(b"")),
    "its end": lambda path: path.write_bytes(path.read_bytes()[:9]),
}


@pytest.mark.parametrize("read_meanwhile", [False, True])
@pytest.mark.parametrize("what", REMOVALS)
async def test_output_that_is_removed_is_written_anew_and_never_sealed_in_part(
    store: FileOutputStore, tmp_path: Path, what: str, *, read_meanwhile: bool
) -> None:
    lines = said("one", "two", "three")
    await store.append(JOB, lines[:2])
    REMOVALS[what](path_of(tmp_path))
    if read_meanwhile:  # by somebody who does not write, after the file was closed
        await store.close()
        await store.read(JOB, 0, 10)
    with pytest.raises(OutputUnavailable):
        await store.append(JOB, lines[2:])
    assert await store.cursor(JOB) is None  # so the engine is asked for all of it
    await store.append(JOB, lines)
    sealed = await store.seal(JOB)
    assert (sealed.lines, sealed.sha256) == (3, sha256(path_of(tmp_path).read_bytes()).hexdigest())


@pytest.mark.parametrize("what", REMOVALS)
async def test_neither_a_seal_nor_a_peer_passes_over_lines_that_were_removed(
    store: FileOutputStore, tmp_path: Path, what: str
) -> None:
    lines = [LogLine(seq, "stdout", seq, f"line {seq}") for seq in range(1, 4)]
    for step in (lambda: store.seal(JOB), lambda: store.extend(JOB, lines[2:]), lambda: store.cursor(JOB)):
        await store.extend(JOB, lines[:2])
        REMOVALS[what](path_of(tmp_path))
        with pytest.raises(OutputUnavailable):
            await step()
        assert await store.last(JOB) == 0
    await store.extend(JOB, lines)
    assert (await store.seal(JOB)).lines == 3


async def test_the_folder_is_made_again_for_the_next_job(store: FileOutputStore, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "logs")
    await store.append(JOB, said("one"))
    assert (await store.seal(JOB)).lines == 1
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700


async def test_what_can_not_be_read_is_told_apart_from_the_event_log(store: FileOutputStore, tmp_path: Path) -> None:
    path_of(tmp_path).mkdir()
    lines = [LogLine(1, "stdout", 1, "line")]
    for step in (
        lambda: store.last(JOB), lambda: store.cursor(JOB), lambda: store.seal(JOB), lambda: store.drop(JOB),
        lambda: store.append(JOB, said("one")), lambda: store.extend(JOB, lines),
    ):  # fmt: skip
        with pytest.raises(OutputUnavailable, match=JOB):
            await step()


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
    opened = store._open[JOB]
    assert isinstance(opened, files._Output)
    assert len(opened.newest.lines) <= 2 * files.RECENT_LINES
    assert len(await everything(store)) == 10_000


def in_memory(store: FileOutputStore, job_id: str = JOB) -> int:
    opened = store._open[job_id]
    assert isinstance(opened, files._Output)
    return sum(len(line.text) for line in opened.newest.lines)


@pytest.mark.parametrize("text", ["x" * 60_000, "é" * 60_000])
async def test_long_lines_in_memory_are_bounded_by_their_bytes_and_read_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(files, "MOST_RECENT_BYTES", 3 << 20)
    store = FileOutputStore(tmp_path / "logs", 64)
    jobs = [f"0198c0de-0000-7000-8000-{number:012}" for number in range(6)]
    for job_id in jobs:
        for number in range(40):
            await store.append(job_id, said(f"{number} {text}"))
    assert in_memory(store, jobs[-1]) <= 2 * files.RECENT_BYTES
    assert sum(in_memory(store, job_id) for job_id in jobs) <= files.MOST_RECENT_BYTES
    for job_id in jobs:
        assert [line.text for line in await everything(store, job_id, 7)] == [f"{n} {text}" for n in range(40)]
        assert await store.cursor(job_id) is not None
    await store.close()


@pytest.mark.parametrize("waits", [False, True])
async def test_a_sealed_output_stays_in_memory_only_for_who_waits(store: FileOutputStore, *, waits: bool) -> None:
    await store.append(JOB, said(*["x" * 1000] * 100))
    waiting = asyncio.create_task(store.wait(JOB, 100 if waits else 0))
    await asyncio.sleep(0)
    await store.seal(JOB)
    assert in_memory(store) == (100_000 if waits else 1000)
    assert len(await everything(store)) == 100
    waiting.cancel()


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
    async with asyncio.timeout(120):
        await waiting


async def test_a_sealed_digest_is_what_sha256sum_says(store: FileOutputStore, tmp_path: Path) -> None:
    await store.append(JOB, said("one", 'with "quotes" and ü', stream="stderr"))
    sealed = await store.seal(JOB)
    data = path_of(tmp_path).read_bytes()
    assert (sealed.lines, sealed.sha256, sealed.truncated) == (2, sha256(data).hexdigest(), False)
    assert [json.loads(line)[0] for line in data.splitlines()] == [1, 2]
    assert path_of(tmp_path).stat().st_mode & 0o777 == 0o400
    await store.drop(JOB)
    assert not path_of(tmp_path).exists()
    assert await store.last(JOB) == 0


# --- what was sealed -----------------------------------------------------------------------------------


class Recorded:
    """What an event log says."""

    def __init__(self, **sealed: SealedLog) -> None:
        self.known, self.gone = sealed, set[str]()

    async def sealed(self, job_id: str) -> SealedLog | None:
        return self.known.get(job_id)

    async def erased(self, job_id: str) -> bool:
        return job_id in self.gone


TEXTS = [f"line {number} ü" for number in range(1, 31)]


async def sealed_store(tmp_path: Path, texts: list[str] = TEXTS) -> tuple[FileOutputStore, Recorded]:
    recorded = Recorded()
    store = FileOutputStore(tmp_path / "logs", 1, recorded)
    for number, text in enumerate(texts):
        await store.append(JOB, said(text, at=number))
    recorded.known[JOB] = await store.seal(JOB)
    return store, recorded


Lines = list[bytes]


class Damage(Struct, frozen=True):
    """change: what is done to the lines. gone: numbers of those that are not shown as they were.
    words: in their place."""

    change: Callable[[Lines], Lines]
    gone: range = range(0)
    words: str = ""


DAMAGES = {
    "the first byte of a line": Damage(
        lambda lines: [*lines[:4], b"\xdb" + lines[4][1:], *lines[5:]], range(5, 6), "line 5 is"
    ),
    "a digit of a number": Damage(lambda lines: [b"[9" + lines[0][2:], *lines[1:]], range(1, 2), "line 1 is"),
    "a number that becomes the last": Damage(
        lambda lines: [*lines[:19], lines[19].replace(b"[20", b"[30"), *lines[20:]], range(20, 21), "line 20 is"
    ),
    "a line break": Damage(
        lambda lines: [*lines[:2], lines[2][:-1] + b" ", *lines[3:]], range(3, 5), "lines 3 to 4 are"
    ),
    "lines in the middle": Damage(lambda lines: lines[:10] + lines[15:], range(11, 16), "lines 11 to 15 are"),
    "the end": Damage(lambda lines: lines[:4], range(5, 31), "lines 5 to 30 are"),
    "all of it": Damage(lambda _: [], range(1, 31), "lines 1 to 30 are"),
    "zeros": Damage(lambda lines: [b"\x00" * sum(map(len, lines))], range(1, 31), "lines 1 to 30 are"),
    "a text": Damage(lambda lines: [*lines[:6], lines[6].replace(b"line", b"lime"), *lines[7:]], range(7, 8)),
    "a line more": Damage(lambda lines: [*lines, lines[-1].replace(b"[30", b"[31")]),
    "a time out of all bounds": Damage(
        lambda lines: [lines[0].replace(b",0,", b",1" + b"0" * 30 + b","), *lines[1:]], range(1, 2), "line 1 is"
    ),
    "two lines changed about": Damage(lambda lines: [*lines[:7], lines[8], lines[7], *lines[9:]], range(8, 10)),
}


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("what", DAMAGES)
async def test_damage_to_a_sealed_output_is_told_and_nothing_is_written(
    tmp_path: Path, what: str, *, fresh: bool
) -> None:
    store, recorded = await sealed_store(tmp_path)
    whole = await everything(store)
    assert (await store.damage(JOB), len(whole)) == ("", 30)
    damage, path = DAMAGES[what], path_of(tmp_path)
    left = b"".join(damage.change(path.read_bytes().splitlines(keepends=True)))
    path.chmod(0o600)
    path.write_bytes(left)
    if fresh:
        await store.close()
        store = FileOutputStore(tmp_path / "logs", 1, recorded)
    lines = await everything(store)
    assert lines[-1].text == OUTPUT_DAMAGED + await store.damage(JOB)
    assert recorded.known[JOB].sha256 in lines[-1].text
    assert [line.seq for line in lines] == sorted({line.seq for line in lines})
    assert set(lines) >= {line for line in whole if line.seq not in damage.gone}
    assert any(damage.words in line.text for line in lines if line.text.startswith("[dms]"))
    for page in (1, 7):
        assert await everything(store, limit=page) == lines
    with pytest.raises(LogUnavailable, match="sealed"):
        await store.append(JOB, said("more"))
    with pytest.raises(PeerMisbehaved):
        await store.extend(JOB, [LogLine(32, "stdout", 1, "more")])
    assert (await store.last(JOB), path.read_bytes(), kept_aside(tmp_path)) == (31, left, [])
    await store.close()


@settings(max_examples=150, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), limit=st.integers(1, 40))
@pytest.mark.slow
def test_any_flipped_bit_is_told_and_hides_few_lines(
    tmp_path_factory: pytest.TempPathFactory, at: float, bit: int, limit: int
) -> None:
    async def main() -> None:
        folder = tmp_path_factory.mktemp("flipped")
        store, recorded = await sealed_store(folder)
        whole = await everything(store)
        await store.close()
        data = bytearray(path_of(folder).read_bytes())
        data[int(at * len(data))] ^= 1 << bit
        path_of(folder).chmod(0o600)
        path_of(folder).write_bytes(data)
        store = FileOutputStore(folder / "logs", 1, recorded)
        lines = await everything(store, limit=limit)
        assert lines[-1].text.startswith(OUTPUT_DAMAGED)
        assert len(set(whole) & set(lines)) >= 28
        assert path_of(folder).read_bytes() == data
        await store.close()

    asyncio.run(main())


async def test_a_large_damaged_output_is_read_in_pages_as_it_is_read_whole(tmp_path: Path) -> None:
    store, _ = await sealed_store(tmp_path, [f"line {number}" for number in range(1, 3001)])
    path = path_of(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.chmod(0o600)
    path.write_bytes(b"".join(lines[:700] + lines[1000:1500] + [b"?\n"] + lines[1501:2900]))
    whole = await everything(store, limit=10_000)
    assert [line.text for line in whole if line.text.startswith("[dms]")] == [
        "[dms] lines 701 to 1000 are damaged or missing here",
        "[dms] line 1501 is damaged or missing here",
        "[dms] lines 2901 to 3000 are damaged or missing here",
        OUTPUT_DAMAGED + await store.damage(JOB),
    ]
    assert await everything(store, limit=97) == whole
    for after in (0, 699, 700, 999, 1000, 1001, 1500, 1501, 2899, 2999, 3000, 3001):
        assert list(await store.read(JOB, after, 5)) == [line for line in whole if line.seq > after][:5]
    await store.close()


async def test_an_output_whose_file_is_gone_says_so_unless_it_was_erased(tmp_path: Path) -> None:
    store, recorded = await sealed_store(tmp_path)
    path_of(tmp_path).unlink()
    assert "its file is missing" in await store.damage(JOB)
    assert [line.seq for line in await everything(store)] == [30, 31]
    recorded.gone.add(JOB)
    await store.drop(JOB)
    assert (await store.damage(JOB), await everything(store)) == ("", [])
    await store.close()


async def test_nothing_printed_and_no_file_is_no_damage(tmp_path: Path) -> None:
    store, _ = await sealed_store(tmp_path, [])
    assert (await store.damage(JOB), await everything(store)) == ("", [])
    await store.close()


async def test_an_output_cut_at_our_own_lower_limit_is_not_held_against_the_providers_digest(tmp_path: Path) -> None:
    recorded = Recorded()
    store = FileOutputStore(tmp_path / "logs", 1, recorded)
    await store.extend(JOB, [LogLine(seq, "stdout", seq, "x" * 60_000) for seq in range(1, 40)])
    assert (await store.seal(JOB)).truncated
    recorded.known[JOB] = SealedLog(39, "ab" * 32, truncated=False)
    lines = await everything(store)
    assert (await store.damage(JOB), lines[-1].text) == ("", MARK)
    await store.close()


async def test_what_was_sealed_but_never_recorded_as_such_goes_on_after_a_crash(tmp_path: Path) -> None:
    store, recorded = await sealed_store(tmp_path)
    recorded.known.clear()
    await store.close()
    store = FileOutputStore(tmp_path / "logs", 1, recorded)
    await store.append(JOB, said("one more"))
    assert (await store.seal(JOB)).lines == 31
    await store.close()


async def test_a_sealed_file_is_read_once_for_all_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = await sealed_store(tmp_path)
    read: list[Path] = []

    def counted(path: Path, seal: SealedLog, index: list[tuple[int, int]] | None = None) -> FileState:
        read.append(path)
        return file_state(path, seal, index)

    monkeypatch.setattr(sealed, "file_state", counted)
    for _ in range(3):
        assert len(await everything(store, limit=5)) == 30
    assert read == [path_of(tmp_path)]
    await store.close()


async def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    store, recorded = await sealed_store(tmp_path)
    path_of(tmp_path).unlink()
    path_of(tmp_path).mkdir()
    with pytest.raises(LogUnavailable, match=str(path_of(tmp_path))):
        await everything(store)
    recorded.known.clear()
    await store.close()
    with pytest.raises(LogUnavailable, match=str(path_of(tmp_path))):
        await everything(store)


def test_the_audit_names_each_damaged_output_and_counts_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    good = b'[1,"stdout",1,"a"]\n'
    short = b'[1,"stdout",1,"a"]\n[2,"stderr",1,"%s"]\n' % MARK.encode()
    seal = SealedLog(1, sha256(good).hexdigest(), truncated=False)
    for name, data in (("good", good), ("bad", good.replace(b"a", b"b")), ("cut", b""), ("short", short)):
        (folder / f"{name}.ndjson").write_bytes(data)
    seals = dict.fromkeys(["good", "bad", "cut", "lost", "erased"], seal)
    seals["short"] = SealedLog(9, "00" * 32, truncated=False)
    seals["silent"] = SealedLog(0, sha256(b"").hexdigest(), truncated=False)
    *_, found = check_outputs(folder, seals, {"erased"})
    assert (found.checked, found.not_here, found.erased, found.cut_short) == (2, 1, 1, 1)
    assert [fault.split(" in ")[0] for fault in found.faults] == ["output of job bad", "output of job cut"]
    assert all(seal.sha256 in fault and str(folder) in fault for fault in found.faults)
