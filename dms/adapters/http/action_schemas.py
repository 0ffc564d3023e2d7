"""The websocket's actions as JSON Schemas: what `/run/deploy` says and hears.

Of the messages to clients, version 1 has only `action` and `message` (or `stdout`, `stderr`); the subprotocol
`dms.actions.v2` adds the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dms.adapters.http.action_frames import SUBPROTOCOL_V2
from dms.adapters.http.answers import Time
from dms.adapters.http.openapi import Shapes
from dms.adapters.http.routes import FLAG, JOB_ID, OPTIONAL_JOB_ID, TEXT, Parameter, WebSocket, choice, whole
from dms.domain.access import Need
from dms.domain.retry import MOST_ATTEMPTS
from dms.domain.reward import Fault

Schema = Mapping[str, Any]
_TIME = Shapes().of(Time)
_POSITION = {"type": "integer", "minimum": 1, "description": "of the event in the log"}
_SEQ = {"type": "integer", "minimum": 1, "description": "number of the line, over both streams"}
_OF_EVENT: Schema = {"job_id": JOB_ID, "position": _POSITION, "time": _TIME}
_OF_LINE: Schema = {"job_id": JOB_ID, "seq": _SEQ, "time": _TIME}
_OF_INPUT: Schema = {
    "number": {"type": "integer", "minimum": 1, "description": "of the input, as the request lists them"},
    "path": {"type": "string", "description": "below /workspace"},
}
_CHECKPOINT: Schema = {
    "number": {"type": "integer", "minimum": 1, "description": "of the checkpoint, among those of the job"},
    "size_bytes": {"type": "integer", "minimum": 0},
    "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "of the archive"},
}
_FETCHED: Schema = {
    "size_bytes": {"type": "integer", "minimum": 0},
    "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "of what was fetched"},
    "cached": {"type": "boolean", "description": "the provider had it already"},
}
_RESPONSE: Schema = {
    "type": "object",
    "properties": {"success": {"const": True}, "content": {"type": "string", "description": "address of the log"}},
    "required": ["success", "content"],
    "additionalProperties": False,
}
_ATTEMPT = {"type": "integer", "minimum": 1, "maximum": MOST_ATTEMPTS, "description": "from 1"}
_FAILED_ATTEMPT: Schema = {
    "type": "object",
    "properties": {"attempt": _ATTEMPT, "reason": TEXT, "fault": {"enum": [str(fault) for fault in Fault]}},
    "required": ["attempt", "reason", "fault"],
    "additionalProperties": False,
}
_STARTED_ATTEMPT: Schema = {
    "type": "object",
    "properties": {
        "attempt": _ATTEMPT,
        "provider": {"type": "string", "description": "peer id"},
        "resumed": {"type": "boolean", "description": "whether it goes on from a checkpoint"},
    },
    "required": ["attempt", "provider", "resumed"],
    "additionalProperties": False,
}


def _action(name: str, what: str, properties: Schema, required: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "description": what,
        "type": "object",
        "properties": {"action": {"const": name}, **properties},
        "required": ["action", *required],
        "additionalProperties": False,
    }


def _output() -> dict[str, Any]:
    schema = _action(
        "log-stream-response", "Output of the job, of one stream; there is no message key.",
        {"stdout": TEXT, "stderr": TEXT, **_OF_LINE},
    )  # fmt: skip
    return schema | {"oneOf": [{"required": ["stdout"]}, {"required": ["stderr"]}]}


OUTGOING: dict[str, dict[str, Any]] = {
    "connected": _action("connected", "The first frame.", {"message": TEXT}, ["message"]),
    "funding-pending": _action(
        "funding-pending", "Version 2 only: the payment can't be told good or bad yet; the message says why.",
        {"message": TEXT, **_OF_EVENT}, ["message"],
    ),
    "input-started": _action(
        "input-started", "Version 2 only: the provider fetches an input, before it starts the container.",
        {"message": TEXT, **_OF_INPUT, **_OF_EVENT}, ["message", *_OF_INPUT],
    ),
    "input-done": _action(
        "input-done", "Version 2 only: an input is in the workspace.",
        {"message": TEXT, **_OF_INPUT, **_FETCHED, **_OF_EVENT}, ["message", *_OF_INPUT, *_FETCHED],
    ),
    "input-failed": _action(
        "input-failed", "Version 2 only: an input can't be had; the message says why, and the job's end follows.",
        {"message": TEXT, **_OF_INPUT, **_OF_EVENT}, ["message", *_OF_INPUT],
    ),
    "checkpoint-received": _action(
        "checkpoint-received", "Version 2 only: a checkpoint of the job is here; a new job can go on from it.",
        {"message": TEXT, **_CHECKPOINT, **_OF_EVENT}, ["message", *_CHECKPOINT],
    ),
    "job-submitted": _action("job-submitted", "The payment counts; the provider is asked to run the job.", _OF_EVENT),
    "deployment-response": _action(
        "deployment-response", "The container runs.", {"message": _RESPONSE, **_OF_EVENT}, ["message"]
    ),
    "job-attempt-failed": _action(
        "job-attempt-failed", "Version 2 only: an attempt failed, and the job is to be tried again.",
        {"message": _FAILED_ATTEMPT, **_OF_EVENT}, ["message"],
    ),
    "job-attempt-started": _action(
        "job-attempt-started", "Version 2 only: the job goes to another provider, or to the same one again.",
        {"message": _STARTED_ATTEMPT, **_OF_EVENT}, ["message"],
    ),
    "log-stream-response": _output(),
    "job-completed": _action("job-completed", "The container ended with exit code 0.", _OF_EVENT),
    "job-failed": _action(
        "job-failed", "The job ended in any other way; the message says which.", {"message": TEXT, **_OF_EVENT},
        ["message"],
    ),
    "log-progress": _action(
        "log-progress",
        "Version 2 only, with `progress=true`: what a terminal would show of a line that has no end yet; empty once it "
        "has ended. It is neither counted nor sent again.",
        {"job_id": JOB_ID, "stream": {"type": "string", "enum": ["stdout", "stderr"]}, "text": TEXT},
        ["stream", "text"],
    ),
    "error": _action("error", "A message of the client was not taken; the socket stays open.", {"message": TEXT},
                     ["message"]),
}  # fmt: skip

_VERSION_2_ONLY = (
    "funding-pending",
    "input-started",
    "input-done",
    "input-failed",
    "checkpoint-received",
    "job-attempt-failed",
    "job-attempt-started",
    "log-progress",
)


def _version_1(schema: Schema) -> dict[str, Any]:
    added = {*_OF_EVENT, *_OF_LINE}
    kept = {name: value for name, value in schema["properties"].items() if name not in added}
    return {**schema, "properties": kept}


def _version_2(schema: Schema) -> dict[str, Any]:
    added = [name for name in schema["properties"] if name in {*_OF_EVENT, *_OF_LINE}]
    return {**schema, "required": [*schema["required"], *added]}


SUBPROTOCOLS = {
    "": {name: _version_1(schema) for name, schema in OUTGOING.items() if name not in _VERSION_2_ONLY},
    SUBPROTOCOL_V2: {name: _version_2(schema) for name, schema in OUTGOING.items()},
}

_NAMED = {"type": "string", "maxLength": 512}
INCOMING: dict[str, dict[str, Any]] = {
    "send-status": {
        "description": "How the payment went. `success` needs a tx_hash. Without a job_id it counts for the latest "
        "request that awaits funding. Keys are matched without regard to case.",
        "type": "object",
        "properties": {
            "action": {"const": "send-status"},
            "message": {
                "type": "object",
                "properties": {
                    "transaction_status": _NAMED | {"examples": ["success", "pending"]},
                    "transaction_type": _NAMED | {"default": "fund"},
                    "tx_hash": _NAMED,
                    "job_id": {"anyOf": [JOB_ID, {"const": ""}]},
                },
                "required": ["transaction_status"],
            },
        },
        "required": ["action", "message"],
    },
    "terminate-job": {
        "description": "Ends the named job, or without a job_id those that this connection funded.",
        "type": "object",
        "properties": {
            "action": {"const": "terminate-job"},
            "message": {
                "anyOf": [
                    {"type": "object", "properties": {"job_id": {"anyOf": [JOB_ID, {"const": ""}]}}},
                    {"type": "null"},
                    {"const": ""},
                ]
            },
        },
        "required": ["action"],
    },
}

_ABOUT = (
    "Tells what happens to the jobs that this connection funded, and to the job named by `job_id`; takes "
    "`send-status` and `terminate-job`. With the subprotocol `dms.actions.v2` frames carry job, position, line number "
    "and time, so that a client that lost its connection goes on where it was."
)
_DEPLOY_QUERY = (
    Parameter("job_id", "Follow this job.", OPTIONAL_JOB_ID, example=""),
    Parameter("after", "Of that job, everything after this position of the log.", whole(2**62)),
    Parameter("log_after", "Of its output, everything behind this line.", whole(2**62)),
    Parameter("progress", "Also lines that have no end yet, as they grow (dms.actions.v2).", FLAG),
    Parameter("actions", "core: only the documented actions, without output.", choice("all", "core")),
)

DEPLOY = tuple(
    WebSocket(
        path="/run/deploy",
        root=root,
        summary="Jobs live: a websocket.",
        description=_ABOUT,
        query=_DEPLOY_QUERY,
        errors=(400, 404),
        tags=("run",),
        incoming=INCOMING,
        outgoing=OUTGOING,
        subprotocols=SUBPROTOCOLS,
        needs=Need.ASK_FOR_JOBS,
    )
    for root in (False, True)
)
