"""Settings as they may be shown: without the secrets that stand in them."""

from __future__ import annotations

import re
from collections.abc import Callable

# Up to the last @: one in a password that nobody escaped is not its end. A comma parts several addresses.
_LOGIN = re.compile(r"(://[^:@/\s,\"]*:)([^\s,\"]*)(?=@)")
_TOKEN = re.compile(r"((?:nats|tls)://)([^:@/\s,\"]+)(?=@)", re.IGNORECASE)  # NATS takes a lone name as a token
_QUERY = re.compile(r"([?&](?:password|passwd|sslpassword|token|secret|key|api_?key)=)([^&\s,\"]+)", re.IGNORECASE)
_MEMBER = re.compile(r"(\"(?:password|token|secret|rpc_url)\"\s*:\s*\")((?:[^\"\\]|\\.)*)", re.IGNORECASE)


def masked(text: str) -> str:
    """An address, or several, without passwords, tokens and keys."""
    return _without(text, (_LOGIN, _TOKEN, _QUERY), lambda _: "***")


def masked_line(line: str) -> str:
    """A line of a settings file; every character keeps its column."""
    return _without(line, (_MEMBER, _LOGIN, _TOKEN, _QUERY), lambda secret: "*" * len(secret))


def _without(text: str, patterns: tuple[re.Pattern[str], ...], hide: Callable[[str], str]) -> str:
    for pattern in patterns:
        text = pattern.sub(lambda found: found[1] + hide(found[2]), text)
    return text
