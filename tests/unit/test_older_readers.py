"""Programs written by an older description go on working. `tests/published/` has what was described: never change
or remove anything in it. What is new is added with: python -m tests.unit.test_older_readers
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dms.adapters.http.action_schemas import INCOMING
from ops.schemas import schemas
from tests.fixtures.promises import broken, inlined, misfits, of_document, plain

FOLDER = Path(__file__).parents[1] / "published"
STREAMS, BODIES = FOLDER / "asyncapi.json", FOLDER / "bodies.json"
ALL = schemas()
DOCUMENT = ALL["asyncapi.json"]
TAKEN = {"config.json", "heads.json", "policy.json", *(f"actions/{name}.json" for name in INCOMING)}


def bodies() -> dict[str, Any]:
    """Each schema that stands alone and has no version: a new version would be another file."""
    return {
        name: plain(schema) for name, schema in ALL.items() if name.startswith(("rest/", "actions/")) or name in TAKEN
    }


def broken_bodies(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for name, was in old.items():
        if name not in new:
            yield f"schemas/{name} is gone"
            continue
        before, after = inlined(was, was), inlined(new[name], new[name])
        taken = name in TAKEN or name.endswith(".request.json")
        yield from misfits(*((before, after) if taken else (after, before)), f"schemas/{name}")


def published(path: Path) -> Any:
    return json.loads(path.read_text())


def now() -> dict[Path, tuple[Any, list[str]]]:
    """What is described, and what of the published it breaks."""
    streams, alone = of_document(DOCUMENT), bodies()
    return {
        STREAMS: (streams, broken(published(STREAMS), streams) if STREAMS.exists() else []),
        BODIES: (alone, list(broken_bodies(published(BODIES), alone)) if BODIES.exists() else []),
    }


NOW = now()


@pytest.mark.parametrize("path", [STREAMS, BODIES], ids=lambda path: path.stem)
def test_nothing_that_was_published_is_broken(path: Path) -> None:
    assert NOW[path][1] == []


@pytest.mark.parametrize("path", [STREAMS, BODIES], ids=lambda path: path.stem)
def test_all_that_is_described_is_published(path: Path) -> None:
    assert json.loads(json.dumps(NOW[path][0])) == published(path), "run: python -m tests.unit.test_older_readers"


# --- the check itself ------------------------------------------------------------------------------
Change = Callable[[dict[str, Any]], object]
EVENT = "api.v1.events, job.failed.v1, payload"


def data(document: dict[str, Any], event: str) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"][event]
    return found


def payload(document: dict[str, Any], message: str) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["messages"][message]["payload"]
    return found


def told(document: dict[str, Any], name: str) -> dict[str, Any]:
    return payload(document, f"run.deploy.{name}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["channels"].pop("api.v1.events.ws"), "channel api.v1.events.ws is gone"),
        (lambda d: d["channels"]["nats.job"].update(address="x.{id}"), "channel nats.job: its address was"),
        (lambda d: d["channels"]["nats.job"]["parameters"]["event"]["enum"].remove("failed"), "event: ['failed']"),
        (lambda d: d["operations"].pop("send_api.v1.events_sse"), "operation send_api.v1.events_sse is gone"),
        (lambda d: d["operations"]["send_nats.job"].update(action="receive"), "operation send_nats.job is another"),
        (lambda d: d["operations"]["send_run.deploy"]["messages"].pop(0), "send_run.deploy: message connected is gone"),
        (lambda d: d["components"]["messages"]["nats.job.failed.v1"].update(contentType="x/y"), "content type was"),
        (lambda d: d["components"]["messages"]["nats.job.failed.v1"]["headers"]["required"].pop(0),
         "headers.Nats-Msg-Id: may be"),
        (lambda d: data(d, "job.failed.v1")["required"].remove("reason"), f"{EVENT}.data.reason: may be absent"),
        (lambda d: data(d, "job.failed.v1")["properties"].pop("reason") and data(d, "job.failed.v1")["required"].remove(
            "reason"), f"{EVENT}.data.reason: may be absent"),
        (lambda d: data(d, "job.failed.v1")["properties"]["reason"].update(type=["string", "null"]), "also null"),
        (lambda d: data(d, "CloudEvent")["properties"]["hash"].pop("pattern"), "payload.hash: pattern was"),
        (lambda d: data(d, "CloudEvent")["properties"]["position"].update(minimum=0), "position: minimum was 1"),
        (lambda d: told(d, "job-failed")["required"].remove("message"), "run.deploy, job-failed, payload.message: may"),
        (lambda d: told(d, "send-status")["properties"]["message"]["required"].append("tx_hash"), "tx_hash: may be"),
        (lambda d: told(d, "send-status")["properties"]["message"]["properties"]["tx_hash"].update(maxLength=9),
         "tx_hash: maxLength was 9"),
        (lambda d: d["channels"]["run.deploy"]["bindings"]["ws"]["query"].update(required=["job_id"]),
         "handshake.query.job_id: may be absent"),
        (lambda d: d["operations"]["send_api.v1.events_sse"]["bindings"]["http"]["query"]["properties"]["limit"].update(
            maximum=5), "query.limit: maximum was 5"),
    ],
)  # fmt: skip
def test_what_an_older_program_could_not_take_is_told(change: Change, said: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    found = broken(published(STREAMS), of_document(document))
    assert any(said in line for line in found), found


def add_a_field(document: dict[str, Any]) -> None:
    data(document, "job.failed.v1")["properties"]["hint"] = {"type": "string"}
    data(document, "job.failed.v1")["required"].append("hint")


def add_a_channel(document: dict[str, Any]) -> None:
    document["channels"]["new"] = document["channels"]["nats.job"] | {"address": "new"}


def take_more(document: dict[str, Any]) -> None:
    status = told(document, "send-status")["properties"]["message"]
    status["required"] = []
    status["properties"]["tx_hash"]["maxLength"] = 1000


def send_less(document: dict[str, Any]) -> None:
    told(document, "connected")["properties"]["message"] = {"type": "string", "maxLength": 100}
    del told(document, "log-stream-response")["oneOf"][0]


def say_it_better(document: dict[str, Any]) -> None:
    document["info"]["description"] = document["channels"]["nats.job"]["title"] = "New."
    data(document, "job.failed.v1")["title"] = "New."


@pytest.mark.parametrize("change", [add_a_field, add_a_channel, take_more, send_less, say_it_better])
def test_what_older_programs_can_take_is_no_break(change: Change) -> None:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    assert broken(published(STREAMS), of_document(document)) == []


@pytest.mark.parametrize(
    ("sent", "known", "fine"),
    [
        ({"type": "integer"}, {"type": "number"}, True),
        ({"type": "number"}, {"type": "integer"}, False),
        ({"enum": ["a"]}, {"type": "string"}, True),
        ({"type": "string"}, {"enum": ["a"]}, False),
        ({"enum": ["a", "b"]}, {"enum": ["a"]}, False),
        ({"type": "string"}, {"anyOf": [{"type": "string"}, {"type": "null"}]}, True),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "string"}, False),
        ({"type": "array"}, {"type": "array", "items": {"type": "string"}}, False),
        ({"type": "object"}, {"type": "object", "additionalProperties": {"type": "string"}}, False),
        ({}, {"type": "string"}, False),
        ({"type": "string"}, {}, True),
    ],
)
def test_whether_all_that_is_sent_fits(sent: dict[str, Any], known: dict[str, Any], fine: bool) -> None:
    assert (not list(misfits(sent, known))) == fine


def test_a_keyword_that_the_check_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="unevaluatedProperties"):
        plain({"unevaluatedProperties": False})


def test_a_body_that_asks_for_more_or_says_less_is_told() -> None:
    old, new = bodies(), copy.deepcopy(bodies())
    new["rest/post.run.request-service.request.json"]["required"].append("hint")
    new["rest/problem.json"]["required"].remove("error")
    del new["actions/connected.json"]
    found = list(broken_bodies(old, new))
    assert len(found) == 3
    assert any("post.run.request-service.request.json.hint: may be absent" in line for line in found)
    assert any("problem.json.error: may be absent" in line for line in found)


if __name__ == "__main__":
    if faults := [fault for _, found in NOW.values() for fault in found]:
        sys.exit("\n".join(["this breaks what was published; make it a new version instead:", *faults]))
    FOLDER.mkdir(exist_ok=True)
    for path, (content, _) in NOW.items():
        path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
