"""What is typed, as names of keys. Pure."""

from __future__ import annotations

ESCAPE, ENTER, TAB, BACKSPACE = "escape", "enter", "tab", "backspace"
UP, DOWN, PAGE_UP, PAGE_DOWN, HOME, END = "up", "down", "page up", "page down", "home", "end"
_SEQUENCES = {
    "\x1b[A": UP, "\x1b[B": DOWN, "\x1bOA": UP, "\x1bOB": DOWN, "\x1b[5~": PAGE_UP, "\x1b[6~": PAGE_DOWN,
    "\x1b[H": HOME, "\x1bOH": HOME, "\x1b[1~": HOME, "\x1b[F": END, "\x1bOF": END, "\x1b[4~": END,
}  # fmt: skip
_PLAIN = {"\r": ENTER, "\n": ENTER, "\t": TAB, "\x7f": BACKSPACE, "\x08": BACKSPACE}
_LONGEST = 16  # of a sequence


def is_unfinished(text: str) -> bool:
    """Whether the rest of it may still come: of a sequence that a slow line has broken in two."""
    begun = text[text.rfind("\x1b") :] if "\x1b" in text else ""
    return bool(begun) and len(begun) < _LONGEST and _length(begun) is None


def keys_in(text: str) -> list[str]:
    """Names of special keys, and the characters of the others. A sequence that is no key of ours is nothing."""
    found: list[str] = []
    at = 0
    while at < len(text):
        if text[at] != "\x1b":
            found.append(_PLAIN.get(text[at], text[at]))
            at += 1
            continue
        length = _length(text[at:])
        if length is None or length == 1:
            found.append(ESCAPE)
            at += 1
            continue
        sequence = text[at : at + length]
        found += [_SEQUENCES[sequence]] if sequence in _SEQUENCES else []
        at += length
    return found


def _length(text: str) -> int | None:
    """Of the sequence that it begins with; 1: the Escape key alone; None: its end is not there yet."""
    if len(text) == 1:
        return None
    if text[1] == "O":
        return 3 if len(text) > 2 else None
    if text[1] != "[":
        return 1
    for at in range(2, len(text)):
        if "@" <= text[at] <= "~":
            return at + 1
    return None
