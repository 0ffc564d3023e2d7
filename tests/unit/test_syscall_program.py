"""The test container's program: machine code written by hand, run by this machine's own kernel; for the other
architecture held against what was seen to work."""

from __future__ import annotations

import platform
import struct
import subprocess
from pathlib import Path

import pytest

from dms.adapters.executors.canary_program import Bounds, Canary, effective_user_program
from dms.adapters.executors.helper_image import is_static
from dms.adapters.executors.syscall_program import MACHINES, SyscallProgram
from dms.domain.sandbox import Asked

MACHINE = platform.machine()
WRITE, EXIT = {"x86_64": (1, 231), "aarch64": (64, 94)}[MACHINE]
HEADERS = 64 + 3 * 56

AARCH64 = """
580002b3 f9400268 a9408660 a9418e62 a9429664 f9400000 f9400021 f9400042 f9400063 f9400084 f94000a5
d4000001 a9439e66 f90000c0 91012273 f100001f 9a9300f3 17fffff0 d503201f d503201f d503201f
"""  # seen to work on an emulator of that machine


def run(program: SyscallProgram, folder: Path) -> subprocess.CompletedProcess[bytes]:
    file = folder / "program"
    file.write_bytes(program.elf())
    file.chmod(0o755)
    return subprocess.run([file], check=False, capture_output=True, timeout=60)


def test_an_answer_can_be_an_argument_of_later_calls(tmp_path: Path) -> None:
    program = SyscallProgram(MACHINE)
    got, value = program.room(8), program.value
    text = program.text("as long as this")
    program.call(WRITE, value(1), value(text), value(15), answer=got)
    program.call(WRITE, value(1), value(text), got)
    program.call(EXIT, got)
    done = run(program, tmp_path)
    assert (done.stdout, done.returncode) == (b"as long as this" * 2, 15)


def test_a_call_that_answers_zero_goes_on_elsewhere(tmp_path: Path) -> None:
    program = SyscallProgram(MACHINE)
    elsewhere = program.next_entry
    program.call(EXIT, program.value(3))
    program.start_here()
    program.call(WRITE, program.value(1), program.value(0), program.value(0), on_zero=elsewhere)
    program.call(EXIT, program.value(4))
    assert run(program, tmp_path).returncode == 3


def test_errors_are_kept_as_the_kernel_tells_them(tmp_path: Path) -> None:
    program = SyscallProgram(MACHINE)
    answer = program.room(8)
    program.call(WRITE, program.value(-1), program.value(0), program.value(0), answer=answer)
    program.call(WRITE, program.value(1), program.value(answer), program.value(8))
    program.call(EXIT, program.value(0))
    assert struct.unpack("<q", run(program, tmp_path).stdout) == (-9,)


def test_the_code_for_arm_is_what_was_seen_to_work() -> None:
    program = SyscallProgram("aarch64")
    program.call(94, program.value(0))
    code = program.elf()[HEADERS : HEADERS + 21 * 4]
    assert [f"{word:08x}" for (word,) in struct.iter_unpack("<I", code)] == AARCH64.split()
    assert struct.unpack_from("<Q", program.elf(), HEADERS + 21 * 4) == (0x600000,)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_programs_need_no_loader_and_are_always_the_same(machine: str) -> None:
    bounds = Bounds(asked=Asked(processes=96, memory_mb=64, open_files=8192), scratch={"/tmp": 32})
    made = Canary(machine, bounds).elf()
    assert made == Canary(machine, bounds).elf()
    assert is_static(made)
    assert is_static(effective_user_program(machine))


def test_what_told_nothing_is_no_finding() -> None:
    canary = Canary(MACHINE, Bounds(asked=Asked(processes=9, memory_mb=64, open_files=9), scratch={}))
    assert canary.read(b"", killed_for_memory=False, outside={}, host_kernel="") is None
    assert canary.read(b"exec failed: no such file", killed_for_memory=False, outside={}, host_kernel="") is None
