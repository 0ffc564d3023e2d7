"""A static ELF program that does nothing but a list of system calls and keeps what each answered: machine code of a few
bytes, written by hand, so that a machine without a compiler can look at a sandbox from inside.

The program walks a table. An entry has a system call's number, the addresses of its six arguments' values, the address
where its answer goes, and the entry to go on with when the answer is zero, as a child's of clone() is. As arguments are
read from memory when a call is made, an answer (a file descriptor, an address) can be an argument of later calls.

Sources: System V ABI, AMD64 supplement, A.2.1; Linux man-pages, syscall(2); Arm ARM (DDI 0487), C6.2; ELF-64 Object
File Format.
"""

from __future__ import annotations

import struct

ARGUMENTS = 6
_ENTRY = struct.Struct("<9Q")  # number, six addresses of arguments, address of the answer, next entry on zero
_PAGE = 0x10000  # the largest of the kernels that are in use
_CODE, _DATA, _TABLE = 0x400000, 0x500000, 0x600000
_MOST_BYTES = _TABLE - _DATA
_HEADER, _SEGMENT = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
_SEGMENTS, _PT_LOAD = 3, 1
_READ, _WRITE, _RUN = 4, 2, 1
_MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine


def _code_x86_64(table: int) -> bytes:
    return b"".join((
        b"\x48\xbb" + struct.pack("<Q", table),  # mov rbx, table
        b"\x48\x8b\x03",                         # next: mov rax, [rbx]
        b"\x48\x8b\x7b\x08", b"\x48\x8b\x3f",    # mov rdi, [rbx+8]; mov rdi, [rdi]
        b"\x48\x8b\x73\x10", b"\x48\x8b\x36",    # mov rsi, [rbx+16]; mov rsi, [rsi]
        b"\x48\x8b\x53\x18", b"\x48\x8b\x12",    # mov rdx, [rbx+24]; mov rdx, [rdx]
        b"\x4c\x8b\x53\x20", b"\x4d\x8b\x12",    # mov r10, [rbx+32]; mov r10, [r10]
        b"\x4c\x8b\x43\x28", b"\x4d\x8b\x00",    # mov r8, [rbx+40]; mov r8, [r8]
        b"\x4c\x8b\x4b\x30", b"\x4d\x8b\x09",    # mov r9, [rbx+48]; mov r9, [r9]
        b"\x0f\x05",                             # syscall
        b"\x48\x8b\x4b\x38", b"\x48\x89\x01",    # mov rcx, [rbx+56]; mov [rcx], rax
        b"\x48\x8b\x4b\x40",                     # mov rcx, [rbx+64]
        b"\x48\x8d\x5b\x48",                     # lea rbx, [rbx+72]
        b"\x48\x85\xc0", b"\x48\x0f\x44\xd9",    # test rax, rax; cmovz rbx, rcx
        b"\xeb\xb9",                             # jmp next
    ))  # fmt: skip


def _code_aarch64(table: int) -> bytes:
    words = [
        0x58000000 | 21 << 5 | 19,  # ldr x19, [pc, #84]: the table's address, behind the code
        0xF9400000 | 19 << 5 | 8,  # next: ldr x8, [x19]
        *(0xA9400000 | pair * 2 + 1 << 15 | pair * 2 + 1 << 10 | 19 << 5 | pair * 2 for pair in range(3)),  # ldp
        *(0xF9400000 | number << 5 | number for number in range(ARGUMENTS)),  # ldr xN, [xN]
        0xD4000001,  # svc #0
        0xA9400000 | 7 << 15 | 7 << 10 | 19 << 5 | 6,  # ldp x6, x7, [x19, #56]
        0xF9000000 | 6 << 5,  # str x0, [x6]
        0x91000000 | 72 << 10 | 19 << 5 | 19,  # add x19, x19, #72
        0xF100001F,  # cmp x0, #0
        0x9A800000 | 19 << 16 | 7 << 5 | 19,  # csel x19, x7, x19, eq
        0x14000000 | -16 & 0x3FFFFFF,  # b next
        *(0xD503201F for _ in range(3)),  # nop
    ]
    return struct.pack(f"<{len(words)}IQ", *words, table)


_CODE_OF = {"x86_64": _code_x86_64, "aarch64": _code_aarch64}
MACHINES = tuple(_CODE_OF)


class SyscallProgram:
    """Its calls in order. Addresses are of the running program's memory."""

    def __init__(self, machine: str) -> None:
        """machine: one of MACHINES."""
        self._machine = machine
        self._data = bytearray()
        self._constants: dict[int, int] = {}
        self._entries: list[tuple[int, list[int], int, int]] = []
        self._nowhere = self.room(8)
        self._start = _TABLE

    def room(self, size: int) -> int:
        """The address of so many zero bytes."""
        return self.keep(bytes(size))

    def keep(self, content: bytes) -> int:
        """The address of these bytes."""
        self._data += bytes(-len(self._data) % 8)
        address = _DATA + len(self._data)
        self._data += content
        if len(self._data) > _MOST_BYTES:
            raise ValueError(f"the program's data has {len(self._data)} bytes, {_MOST_BYTES} at most fit")
        return address

    def text(self, content: str) -> int:
        return self.keep(content.encode() + b"\0")

    def value(self, number: int) -> int:
        """The address of an argument with that value: a number, or an address."""
        if number not in self._constants:
            self._constants[number] = self.keep(struct.pack("<Q", number & 0xFFFFFFFFFFFFFFFF))
        return self._constants[number]

    @property
    def next_entry(self) -> int:
        """The address of the call that is added next."""
        return _TABLE + len(self._entries) * _ENTRY.size

    def start_here(self) -> None:
        """The program begins with the call that is added next."""
        self._start = self.next_entry

    def call(self, number: int, *arguments: int, answer: int = 0, on_zero: int = 0) -> None:
        """arguments: addresses of values. answer: where to write it, 8 bytes. on_zero: the entry to go on with."""
        empty = [self.value(0)] * (ARGUMENTS - len(arguments))
        following = on_zero or self.next_entry + _ENTRY.size
        self._entries.append((number, [*arguments, *empty], answer or self._nowhere, following))

    def elf(self) -> bytes:
        """The last call must be one that does not return."""
        code = _CODE_OF[self._machine](self._start)
        table = b"".join(_ENTRY.pack(number, *values, to, zero) for number, values, to, zero in self._entries)
        start = _HEADER.size + _SEGMENTS * _SEGMENT.size
        header = _HEADER.pack(
            b"\x7fELF\x02\x01\x01", 2, _MACHINES[self._machine], 1, _CODE + start, _HEADER.size, 0, 0, _HEADER.size,
            _SEGMENT.size, _SEGMENTS, 0, 0, 0,
        )  # fmt: skip
        data_at = _PAGE  # each part begins at a page of the file; the first is the headers themselves with the code
        table_at = data_at + len(self._data) + -len(self._data) % _PAGE
        first = header + b"".join((
            _segment(_READ | _RUN, 0, _CODE, start + len(code)),
            _segment(_READ | _WRITE, data_at, _DATA, len(self._data)),
            _segment(_READ | _WRITE, table_at, _TABLE, len(table)),
            code,
        ))  # fmt: skip
        return (first.ljust(data_at, b"\0") + self._data).ljust(table_at, b"\0") + table


def _segment(rights: int, offset: int, address: int, size: int) -> bytes:
    return _SEGMENT.pack(_PT_LOAD, rights, offset, address, address, size, size, _PAGE)
