"""The signs of the live views, and what stands in their place where the terminal's encoding has none."""

from __future__ import annotations

from msgspec import Struct


class Glyphs(Struct, frozen=True, kw_only=True):
    """states: of waiting, running, completed, failed, stopped, out of contact. bar: held, free, not offered."""

    waiting: str = "◔"
    running: str = "▶"
    completed: str = "✔"
    failed: str = "✖"
    stopped: str = "■"
    lost: str = "!"
    live: str = "●"
    away: str = "○"
    bar: tuple[str, str, str] = ("█", "░", "·")
    between: str = " · "
    more: str = "…"


PLAIN = Glyphs(
    waiting="o", running=">", completed="+", failed="x", stopped="-", live="*", away="o", bar=("#", "-", "."),
    between=" | ", more="~",
)  # fmt: skip


def glyphs_for(encoding: str | None) -> Glyphs:
    made = Glyphs()
    try:
        "".join((made.waiting, made.running, made.completed, made.failed, *made.bar, made.more)).encode(
            encoding or "ascii"
        )
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return made
