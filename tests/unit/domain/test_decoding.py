"""Bytes of others that are no text, or nested without an end: each decoder tells them as it tells other rubbish."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dms.adapters.nats import place
from dms.adapters.outputs.sealed import parsed
from dms.adapters.p2p import exchange
from dms.application.network.messages import Terminate, decode_answer, decode_request
from dms.domain.export import Checker
from dms.domain.policy import read_policy
from dms.errors import InvalidInput, LogCorrupt, PeerMisbehaved

RUBBISH = (
    b'{"job_id": "\xff", "reason": "\xc3\xfc", "error": {"code": "\xff", "message": "\xff"}}',
    b'{"unknown": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b"[" * 50_000,
    b"{",
)
DECODERS: dict[str, tuple[Callable[[bytes], Any], type[Exception]]] = {
    "a peer's request": (lambda body: decode_request(body, Terminate), InvalidInput),
    "a peer's answer": (lambda body: decode_answer("peer", body, Terminate), PeerMisbehaved),
    "a peer's frame": (lambda body: exchange._decode(body, "peer"), PeerMisbehaved),
    "an export": (lambda body: list(Checker(lambda *_: True).records([body])), LogCorrupt),
    "a policy": (read_policy, InvalidInput),
}


@pytest.mark.parametrize("body", RUBBISH, ids=range(len(RUBBISH)))
@pytest.mark.parametrize("what", DECODERS)
def test_rubbish_is_refused(what: str, body: bytes) -> None:
    decode, error = DECODERS[what]
    with pytest.raises(error):
        decode(body)


@pytest.mark.parametrize("body", RUBBISH, ids=range(len(RUBBISH)))
def test_a_file_of_rubbish_counts_as_none(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "place.json").write_bytes(body)
    assert place.load(tmp_path / "place.json") is None
    assert parsed(body + b"\n") is None
