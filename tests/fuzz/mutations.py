"""Other inputs made from known ones, without a look at what they reach: the same for the same random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

LONGEST = 4096  # bytes, of what is made

# What decoders trip over: numbers at their edges, brackets, escapes, cut and overlong UTF-8, NUL, line ends.
TOKENS: tuple[bytes, ...] = (
    b"\x00",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\r\n",
    b"\n",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    b"\\ud800",
    b"\\u0000",
    b"\\",
    b'"',
    b"'",
    b"[",
    b"]",
    b"{",
    b"}",
    b":",
    b",",
    b"/",
    b"..",
    b"%",
    b"%00",
    b"-",
    b"-1",
    b"0",
    b"1e999",
    b"1e-99999999",
    b"NaN",
    b"Infinity",
    b"null",
    b"true",
    b"9" * 20,
    b"9" * 4301,
    b"18446744073709551616",
    b"9223372036854775808",
    b"0x",
    b"@",
    b"#",
    b"*",
    b"&a",
    b"!!",
    b"~",
    b"[" * 200,
    b'{"a":' * 40,
    b" " * 64,
    b"\x1b[",
    b"::",
    b"[::1",
    b"\xd9\xa3",
)


def mutated(random: Random, known: Sequence[bytes]) -> Iterator[bytes]:
    """For ever."""
    while True:
        data = bytearray(random.choice(known))
        for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
            _change(random, data, known)
        yield bytes(data[:LONGEST])


def _change(random: Random, data: bytearray, known: Sequence[bytes]) -> None:
    at = random.randint(0, len(data))
    until = min(len(data), at + random.choice((1, 1, 2, 4, 16, 64)))
    match random.randrange(8):
        case 0 if at < len(data):
            data[at] ^= 1 << random.randrange(8)
        case 1 if at < len(data):
            data[at] = random.randrange(256)
        case 2:
            data[at:at] = random.choice(TOKENS)
        case 3:
            data[at:until] = random.choice(TOKENS)
        case 4:
            del data[at:until]
        case 5:
            data[at:at] = data[at:until] * random.choice((1, 2, 16))
        case 6:
            del data[at:]
        case _:
            other = random.choice(known)
            start = random.randint(0, len(other))
            data[at:until] = other[start : start + random.choice((4, 16, 256))]
