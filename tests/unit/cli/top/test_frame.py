"""What the live view shows: frames of some size, made from what was told."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from dms.cli.glyphs import PLAIN, glyphs_for
from dms.cli.top.board import Board, Machine, Peer, Use
from dms.cli.top.choice import Choice, Mode, Side
from dms.cli.top.frame import Link, OutputLines, Scene, Size, frame
from dms.cli.top.output_tail import OutputTail
from dms.cli.top.screen import styled
from dms.cli.top.updates import Printed
from dms.domain.resources import Gpu, Resources
from projections.jobs import JobRow

NOW_US = 1_800_000_000_000_000
EVIL = "evil\x1b]0;title\x07\x1b[2J\u202ereversed\u200f\u2028next\nline\x9b31m"


def row(number: int = 1, **more: Any) -> JobRow:
    fields: dict[str, Any] = {
        "job_id": f"0199{number:04x}-0000-7000-8000-000000000001",
        "role": "compute provider",
        "status": "running",
        "peer": "12D3KooWAbcdefghijklmnop",
        "price": "0.4",
        "service_type": "ml-training-cpu",
        "image": "python:3.12",
        "cpu_mhz": 1000,
        "memory_mb": 512,
        "vram_mb": 0,
        "minutes": 10,
        "requested_at": NOW_US - 90_000_000,
        "started_at": NOW_US - 60_000_000,
        "position": number,
    }
    return JobRow(**{**fields, **more})


MACHINE = Machine(
    onboarded=True, accepting=True, core_mhz=2500,
    total=Resources(cpu_mhz=10_000, memory_mb=16_000), offered=Resources(cpu_mhz=5000, memory_mb=8000),
    reserved=Resources(cpu_mhz=1000, memory_mb=512), earned_ntx="9.25", to_claim_ntx="2.5",
)  # fmt: skip


def scene(*rows: JobRow, machine: Machine = MACHINE, **more: Any) -> Scene:
    board = Board()
    board.begin(rows, 1234)
    board.machine = machine
    board.peers = (Peer("12D3KooWx", 4.0), Peer("12D3KooWy", 12.0), Peer("12D3KooWz"))
    fields: dict[str, Any] = {
        "board": board, "choice": Choice(), "link": Link(connected=True, heard_at=99.8), "now_us": NOW_US,
        "now_seconds": 100.0,
    }  # fmt: skip
    return Scene(**{**fields, **more})


def texts(shown: Scene, columns: int = 80, rows: int = 24) -> list[str]:
    return [line.plain.rstrip() for line in frame(shown, Size(columns, rows))]


def test_a_provider_sees_its_machine_its_jobs_and_how_fresh_that_is() -> None:
    shown = scene(row(1), row(2, status="completed", ended_at=NOW_US - 1_000_000, duration_seconds=5.0))
    shown.board.uses = {row(number).job_id: Use(0.5, 300) for number in (1, 2)}
    lines = texts(shown, columns=120)
    assert lines[0].startswith("nunet top · provider")
    assert lines[0].endswith("● live · position 1,234 · 0.2 s")
    assert lines[1] == "● takes jobs"
    assert "1,000 of 5,000 MHz held, 4,000 free, 10,000 in all" in lines[2]
    assert "512 of 8,000 MB held" in lines[3]
    assert lines[4] == "earned 9.25 NTX · to claim 2.5 NTX · 3 peers (round trip 4 to 12 ms, median 8)"
    assert lines[5].split()[:4] == ["STATE", "JOB", "FOR", "CPU"]
    for part in ("▶ running", "01990001-0000", "12D3..klmnop", "1,250/1,000", "300/512", "1:00", "9:00", "python:3.12"):
        assert part in lines[6]
    assert "✔ completed" in lines[7]
    assert "300/512" not in lines[7]
    assert "0:05" in lines[7]
    assert "q quit" in lines[-1]


def test_a_requester_sees_its_own_jobs_alone() -> None:
    mine = row(2, role="service provider", status="failed", reason="exit code 3", ended_at=NOW_US)
    lines = texts(scene(row(1), mine, choice=Choice(side=Side.REQUESTER)))
    assert lines[1].startswith("1 failed")
    assert "✖ failed" in lines[3]
    assert "exit code 3" in lines[3]
    assert not any("running" in line for line in lines[:-1])


@pytest.mark.parametrize(
    ("link", "said"),
    [
        (Link(), "○ connecting"),
        (Link(connected=True, heard_at=70.0), "○ nothing heard for 30 s"),
        (Link(connected=False, heard_at=88.0, trouble="nothing answers"), "○ reconnecting, last seen 12 s ago"),
    ],
)
def test_what_is_stale_says_so(link: Link, said: str) -> None:
    lines = texts(scene(row(), link=link))
    assert lines[0].endswith(said)
    assert "live" not in lines[0]
    assert lines[-2] == (link.trouble or row().job_id)


def test_why_no_jobs_are_taken_is_said() -> None:
    machine = Machine(onboarded=True, accepting=False, why_not=("the memory is full", EVIL))
    lines = texts(scene(machine=machine), columns=200)
    assert lines[1].startswith("✖ takes no jobs: the memory is full; evil\\x1b]0;title")


def test_each_gpu_has_a_bar_until_they_are_too_many() -> None:
    half = Gpu(name="card", total_vram_mb=8000, free_vram_mb=2000)
    gpus = tuple(replace(half, uuid=str(n), shared=n == 1) for n in range(6))
    lines = texts(scene(machine=Machine(onboarded=True, accepting=True, gpus=gpus)), columns=120)
    assert lines[4].startswith("GPU0    [")
    assert "6,000 of 8,000 MB held, 2,000 free" in lines[4]
    assert "shared card" in lines[5]
    assert lines[8] == "and 2 more GPUs"


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (20, 5), (1, 1), (300, 100)])
@pytest.mark.parametrize("mode", list(Mode))
def test_a_frame_fits_any_terminal(size: tuple[int, int], mode: Mode) -> None:
    rows = [row(n, image="図" * 100, reason=EVIL) for n in range(200)]
    output = OutputLines(rows[0].job_id, tuple(("stdout", EVIL) for _ in range(500)))
    shown = scene(*rows, choice=Choice(mode=mode, selected=rows[0].job_id), output=output)
    lines = frame(shown, Size(*size))
    assert len(lines) == max(size[1], 1)
    for line in lines:
        drawn = styled(line, size[0], colour=False)
        bare = drawn.replace("\x1b[K", "")
        for code in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[7m", "\x1b[4m", "\x1b[1;4m", "\x1b[1;7m", "\x1b[2;7m"):
            bare = bare.replace(code, "")
        assert "\x1b" not in bare
        assert cell_len(bare) <= size[0]


def test_text_of_strangers_steers_nothing() -> None:
    shown = scene(row(image=EVIL, peer=EVIL, reason=EVIL, status=EVIL, price=EVIL))
    drawn = "".join(styled(line, 400, colour=True) for line in frame(shown, Size(400, 24)))
    for forbidden in ("\x1b]", "\x1b[2J", "\x07", "\u202e", "\u200f", "\u2028", "\n", "\x9b"):
        assert forbidden not in drawn
    assert "evil\\x1b]0;title\\x07\\x1b[2J\\u202ereversed" in drawn


def test_colours_are_the_terminals_own_sixteen_and_none_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    lines = frame(scene(row()), Size())
    coloured = "".join(styled(line, 80, colour=True) for line in lines)
    assert "\x1b[1;36m" in coloured or "\x1b[32m" in coloured
    assert "38;" not in coloured
    plain = "".join(styled(line, 81, colour=False) for line in lines)
    assert not any(f"\x1b[{code}m" in plain for code in range(30, 48))


def test_signs_are_ascii_where_the_terminal_has_no_others() -> None:
    assert glyphs_for("ascii") is PLAIN
    lines = texts(scene(row(), glyphs=PLAIN))
    assert all(line.isascii() for line in lines)
    assert glyphs_for("utf-8").running == "▶"


def test_the_selected_job_stays_in_sight() -> None:
    rows = [row(n, requested_at=NOW_US - n) for n in range(100)]
    lines = texts(scene(*rows, choice=Choice(selected=rows[70].job_id)))
    assert sum(rows[70].job_id[:13] in line for line in lines[:-2]) == 1


def test_output_shows_streams_apart_and_only_what_fits() -> None:
    job = row()
    output = OutputLines(job.job_id, (*(("stdout", f"line {n}") for n in range(100)), ("stderr", "bad\tthing")))
    choice = Choice(mode=Mode.OUTPUT, selected=job.job_id)
    lines = texts(scene(job, choice=choice, output=output))
    assert "! bad     thing" in lines
    assert "  line 99" in lines
    assert "  line 70" not in lines
    lines = texts(scene(job, choice=Choice(mode=Mode.OUTPUT, selected=job.job_id, back=50), output=output))
    assert "50 newer lines below" in lines[1]
    assert "  line 40" in lines


def test_peers_stand_with_their_round_trips_the_nearest_first() -> None:
    lines = texts(scene(choice=Choice(mode=Mode.PEERS)))
    assert [line.split() for line in lines[2:5]] == [
        ["4.0", "ms", "12D3KooWx"],
        ["12.0", "ms", "12D3KooWy"],
        ["12D3KooWz"],
    ]


def test_what_matters_most_stays_on_eighty_columns() -> None:
    lines = texts(scene(row()))
    assert lines[5].split() == ["STATE", "JOB", "CPU", "MHz", "MEMORY", "MB", "LEFT/END", "REASON,", "IMAGE"]


def test_an_empty_list_tells_the_first_step() -> None:
    assert any("nunet job run" in line for line in texts(scene(choice=Choice(side=Side.REQUESTER))))
    assert any("nunet onboard" in line for line in texts(scene(machine=Machine())))
    assert any("no job fits the filter x; Esc" in line for line in texts(scene(row(), choice=Choice(filter="x"))))


def test_an_output_that_is_opened_twice_is_shown_once() -> None:
    """What was read for the first time may arrive with what is read for the second."""
    tail = OutputTail("job")
    for _ in range(2):
        tail.take(Printed("job", (("stdout", "a"), ("stdout", "b")), "1 line stands before these", begins=True))
    tail.take(Printed("job", (("stdout", "c"),)))
    assert [text for _, text in tail.shown.lines] == ["a", "b", "c"]


def test_who_may_not_see_the_machine_is_told_so_in_place_of_figures() -> None:
    lines = [line.plain for line in frame(scene(machine=Machine(hidden=True)), Size())]
    assert any("is not shown to this token" in line for line in lines)
    assert not any("nunet onboard" in line or "takes no jobs" in line for line in lines)
