"""The log's way out: nobody who logs waits for who reads."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.adapters.service import logs
from dms.adapters.service.logs import BackgroundHandler, rotating, to_descriptor, to_file
from dms.process import JsonLines, TerminalLines, tell_error


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        os.close(fd)


def logger_of(handler: logging.Handler) -> logging.Logger:
    made = logging.Logger("test")  # noqa: LOG001  # of this test alone
    made.addHandler(handler)
    return made


def read_lines(fd: int, until: str) -> list[str]:
    text = ""
    while until not in text:
        text += os.read(fd, 65_536).decode()
    return text.split("\n")


def test_a_reader_that_does_not_read_holds_up_nobody_and_is_told_what_it_missed(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    handler = BackgroundHandler(to_descriptor(writing), most_bytes=100_000)
    log = logger_of(handler)
    for number in range(20_000):
        log.info("line %d %s", number, "x" * 80)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.extend(read_lines(reading, "the last")))
    thread.start()
    handler.flush()
    log.info("the last")
    thread.join(120)
    assert [line.split()[1] for line in found[:5]] == ["0", "1", "2", "3", "4"]
    told = [line for line in found if "lines of this log were dropped" in line]
    kept = [line for line in found if line.startswith("line ")]
    assert told
    assert sum(int(line.split()[0]) for line in told) == 20_000 - len(kept)


def test_a_descriptor_that_does_not_block_gets_every_line_whole(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.set_blocking(writing, False)
    handler = BackgroundHandler(to_descriptor(writing))
    log = logger_of(handler)
    for number in range(3000):
        log.info("%d %s", number, "€" * 100)
    log.info("end")
    found = read_lines(reading, "end\n")
    assert [line.split()[0] for line in found[:3000]] == [str(number) for number in range(3000)]


def test_nobody_at_the_other_end_is_no_matter() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    handler = BackgroundHandler(to_descriptor(writing))
    logger_of(handler).error("to nobody")
    handler.flush()
    os.close(writing)


def test_the_file_turns_over_and_a_full_disk_is_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = rotating(tmp_path / "dms.log", each_bytes=500, older=2)
    handler = BackgroundHandler(to_file(file))
    log = logger_of(handler)
    for number in range(100):
        log.info("line %d %%s \udce9", number)
    handler.flush()
    file.close()
    assert {path.name for path in tmp_path.iterdir()} == {"dms.log", "dms.log.1", "dms.log.2"}
    assert "line 99 %s \\udce9\n" in (tmp_path / "dms.log").read_text()
    full = rotating(Path("/dev/full"), each_bytes=0, older=0)
    handler = BackgroundHandler(to_file(full))
    logger_of(handler).info("no room")
    handler.flush()
    with pytest.raises(OSError, match="No space"):
        full.close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("read", [True, False])
@pytest.mark.slow
def test_a_process_ends_with_its_log_written_or_without_waiting_for_ever(read: bool) -> None:
    code = (
        "import asyncio, logging, time\n"
        "from dms.process import log_to_stderr\n"
        "log_to_stderr(False)\n"
        "for n in range(5000): logging.getLogger('dms').info('line %d', n)\n"
        "print('out')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if read:
            _, said = process.communicate(timeout=60)
            assert said.count(b'"line ') == 5000
        else:
            assert process.stdout.readline() == b"out\n"  # it got here with stderr full
        assert process.wait(logs.END_SECONDS + 60) == 0


@pytest.mark.parametrize("formatter", [TerminalLines(), JsonLines()], ids=["for a terminal", "for a collector"])
def test_what_a_stranger_writes_makes_no_line_and_steers_no_terminal(formatter: logging.Formatter) -> None:
    forged = "a\r\nFAKE 200\x1b[2J\x00\x9b2J\u2028\x7f"
    try:
        raise ValueError(forged)
    except ValueError:
        failed = sys.exc_info()
    for cause in (None, failed):
        record = logging.LogRecord("dms", logging.INFO, "", 1, "asked for %s by %r", (forged, forged), cause)
        first, *more = formatter.format(record).split("\n")
        assert all(line.isprintable() and not line.startswith("FAKE") for line in (first, *more[:-1]))
        assert "FAKE 200" in first, "it is told all the same"
        assert bool(more) == (cause is not None and isinstance(formatter, TerminalLines))


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), ValueError("a bug")])
async def test_a_cut_connection_of_a_library_is_told_in_a_line(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise error

    asyncio.get_running_loop().set_exception_handler(tell_error)
    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    del task
    gc.collect()
    [record] = caplog.records
    assert "never retrieved" in record.getMessage()
    if isinstance(error, OSError):
        assert record.getMessage().endswith("ConnectionResetError: [Errno 104] Connection reset by peer")
    assert (record.levelname, record.exc_info is None) == (
        ("WARNING", True) if isinstance(error, OSError) else ("ERROR", False)
    )
