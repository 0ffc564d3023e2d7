"""The JetStream stream that holds the events: its settings, its subjects, and what it holds of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from dms.adapters.nats.connection import why
from dms.application.network.messages import UUID_PATTERN
from dms.application.records.cloudevents import MEDIA_TYPE
from dms.config import Nats
from dms.domain.event import Recorded
from dms.errors import ConfigError
from dms.json_schema import shown_pattern

STREAM = "DMS"
SUBJECTS = "dms.v1.>"
SUBJECT = "dms.v1.{peer}.{aggregate}.{id}.{event}"
DUPLICATE_WINDOW_SECONDS = 120.0
TOKEN_CHARACTERS = 96
HEADERS: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "Nats-Msg-Id": {"type": "string", "pattern": shown_pattern(UUID_PATTERN), "description": "the event's id"},
        "Nats-Expected-Stream": {"const": STREAM},
        "Content-Type": {"const": MEDIA_TYPE},
    },
    "required": ["Nats-Msg-Id", "Nats-Expected-Stream", "Content-Type"],
}
"""JSON Schema of `headers`."""
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_ODD = re.compile(rb"[^A-Za-z0-9_-]")
_DAY_SECONDS = 86_400


def subjects_of(peer_id: str) -> str:
    """All events of one DMS."""
    return f"dms.v1.{token(peer_id)}.>"


def subject(recorded: Recorded, peer_id: str) -> str:
    """dms.v1.<peer id>.<aggregate>.<id>.<event>"""
    aggregate, _, key = recorded.originator_id.partition("-")
    name = recorded.topic.partition(".")[2] or recorded.topic
    return SUBJECT.format(peer=token(peer_id), aggregate=token(aggregate), id=token(key), event=token(name))


def headers(recorded: Recorded) -> dict[str, str]:
    """What every message carries beside the event."""
    return {"Nats-Msg-Id": recorded.event_id, "Nats-Expected-Stream": STREAM, "Content-Type": MEDIA_TYPE}


def token(text: str) -> str:
    """One token of a subject. What is not a letter, digit, - or _ is percent-encoded; a long one is
    cut and ends in ~ and 16 digits of its sha256 (a server takes subjects of bounded length only)."""
    encoded = text
    if not _PLAIN.fullmatch(text):
        encoded = _ODD.sub(lambda found: b"%%%02X" % found[0][0], text.encode()).decode() or "%"
    if len(encoded) <= TOKEN_CHARACTERS:
        return encoded
    return f"{encoded[: TOKEN_CHARACTERS - 17]}~{sha256(text.encode()).hexdigest()[:16]}"


def wanted(settings: Nats) -> StreamConfig:
    """How the stream is made. Nobody may take single messages out of it: what its limits allow stays."""
    return StreamConfig(
        name=STREAM,
        description="Events of NuNet DMSes as CloudEvents 1.0 JSON",
        subjects=[SUBJECTS],
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        storage=StorageType.FILE,
        max_age=settings.max_age * _DAY_SECONDS,
        max_bytes=settings.max_mb * 1024 * 1024,
        num_replicas=settings.replicas,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
        allow_direct=True,
        deny_delete=True,
        deny_purge=True,
    )


async def ensure(js: JetStreamContext, settings: Nats) -> StreamInfo:
    """The stream, made when missing; one that is there keeps its limits, which are its operator's
    matter. Raises ConfigError when it can't hold our events in order."""
    try:
        info = await js.stream_info(STREAM)
    except NotFoundError:
        try:
            info = await js.add_stream(wanted(settings))
        except APIError as error:
            raise ConfigError(f"NATS does not let us make the stream {STREAM}: {why(error)}") from error
    faults = _faults(info.config)
    if faults:
        raise ConfigError(f"the stream {STREAM} can't hold the events: {'; '.join(faults)}")
    return info


def _faults(config: StreamConfig) -> list[str]:
    found = []
    if SUBJECTS not in (config.subjects or []):
        found.append(f"its subjects are {config.subjects}, not {SUBJECTS}")
    if config.retention != RetentionPolicy.LIMITS:
        found.append("its retention is not `limits`: messages go when they are read")
    if config.discard != DiscardPolicy.OLD:
        found.append("it discards new messages when it is full, not old ones")
    if config.storage != StorageType.FILE:
        found.append("it is kept in memory, not in files")
    if config.sealed or config.mirror or config.sources or config.no_ack:
        found.append("it is sealed, a mirror, fed from other streams, or answers no publisher")
    if config.max_msgs_per_subject not in (None, -1, 0):
        found.append("it keeps only some messages of each subject")
    return found
