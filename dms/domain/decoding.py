"""What decoding bytes of others may raise, all of it."""

from __future__ import annotations

import msgspec

# msgspec tells text that is not UTF-8, and nesting without an end, by Python's own errors.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
