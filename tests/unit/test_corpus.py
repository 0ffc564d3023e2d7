"""Events as older programs wrote them are read for ever. `tests/corpus/<topic>.v<version>.json` is a body with all of
its fields, frozen: never change or remove one. A new event or version: python -m tests.unit.test_corpus adds its file.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import inspect

import ops.schemas
from dms.application.records import event_schemas
from dms.domain.device import Device
from dms.domain.event import EVENT_TYPES, Event, Unknown, Upcaster, decode, encode
from dms.domain.gpus import vram_offered
from dms.domain.job import Job
from dms.domain.sealing import ERASED, SEALED, put_back
from dms.errors import LogCorrupt

FOLDER = Path(__file__).parent.parent / "corpus"
FILES = sorted(FOLDER.glob("*.json"))
assert event_schemas.SOURCES  # registers the events


class FrozenKey:
    """Opens and seals with one key for ever, as the frozen bodies were sealed."""

    _cipher = AESGCM(bytes(32))

    def seal(self, plain: bytes, topic: str) -> str:
        nonce = bytes(12)
        return f"{'0' * 32}.{b64encode(nonce + self._cipher.encrypt(nonce, plain, topic.encode())).decode()}"

    def open(self, token: str, topic: str) -> bytes | None:
        sealed = b64decode(token.partition(".")[2])
        if not sealed:
            return None
        return self._cipher.decrypt(sealed[:12], sealed[12:], topic.encode())


KEYS = FrozenKey()


def body_of(cls: type[Event]) -> Any:
    return sample(inspect.type_info(cls))


def read(path: Path) -> tuple[str, int, bytes]:
    topic, _, version = path.stem.rpartition(".v")
    return topic, int(version), path.read_bytes()


def sample(kind: inspect.Type) -> Any:
    """A JSON value of the type, unlike its default."""
    match kind:
        case inspect.StructType(fields=fields):
            return {field.encode_name: sample(field.type) for field in fields}
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return [sample(item)]
        case inspect.DictType(value_type=value):
            return {"text": sample(value)}
        case inspect.UnionType(types=types):
            return sample(next(t for t in types if not isinstance(t, inspect.NoneType)))
        case inspect.EnumType(cls=cls):
            return next(member.value for member in cls if member.value)
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return 1
        case inspect.FloatType():
            return 1.5
        case inspect.StrType(pattern=pattern) if pattern:
            return "ab" * 32  # a digest: the only pattern so far
        case inspect.StrType():
            return "text"
        case _:
            raise TypeError(f"no sample of {kind}: add one")


def opened(data: bytes, topic: str) -> dict[str, Any]:
    """The frozen body with what was sealed back in its place."""
    body: dict[str, Any] = msgspec.json.decode(data)
    sealed = KEYS.open(body.pop(SEALED, "."), topic)
    put_back(body, msgspec.json.decode(sealed) if sealed else {})
    return body


def holds(written: Any, kept: Any) -> bool:
    """Whether all that was kept is there as it was; beside it there may be what was added since."""
    match kept:
        case dict():
            return all(name in written and holds(written[name], value) for name, value in kept.items())
        case list():
            return len(written) == len(kept) and all(map(holds, written, kept))
        case _:
            return bool(written == kept)


def missing() -> list[type[Event]]:
    return [cls for cls in EVENT_TYPES.values() if not (FOLDER / f"{cls.TOPIC}.v{cls.VERSION}.json").is_file()]


def test_every_event_has_its_frozen_body() -> None:
    assert missing() == [], "run: python -m tests.unit.test_corpus"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_frozen_body_is_read_and_loses_nothing(path: Path) -> None:
    """Fails for a field that was removed, retyped, or added as required, without a new version. One that was added
    since, and may be missing, has its default."""
    topic, version, data = read(path)
    event = decode(topic, version, data, KEYS)
    assert not isinstance(event, Unknown)
    assert ERASED not in encode(event).decode()
    if version == EVENT_TYPES[topic].VERSION:
        assert holds(msgspec.json.decode(encode(event)), opened(data, topic))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_frozen_body_is_read_when_its_key_is_destroyed(path: Path) -> None:
    topic, version, data = read(path)
    event = decode(topic, version, data)
    sealed = SEALED in msgspec.json.decode(data)
    told = ERASED in type(event).PERSONAL.values()  # of what is no text nothing is left
    assert (ERASED in encode(event).decode()) == (sealed and told)


def test_the_offer_of_an_older_onboarding_is_lifted() -> None:
    """Version 1 had `cpu_mhz` and `memory_mb` beside `total`, and no GPU memory."""
    _, _, data = read(FOLDER / "device.onboarded.v1.json")
    old, event = msgspec.json.decode(data), decode("device.onboarded", 1, data)
    assert isinstance(event, Device.Onboarded)
    assert (event.offered.cpu_mhz, event.offered.memory_mb) == (old["cpu_mhz"], old["memory_mb"])
    assert event.offered.vram_mb == vram_offered(event.total.gpus)


@pytest.mark.parametrize(
    ("topic", "version", "body"),
    [
        ("job.failed", 2, b"[]"),
        ("job.failed", 2, b'"text"'),
        ("job.failed", 2, b'{"sealed": "x"}'),
        ("job.failed", 2, b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        ("device.onboarded", 1, b"{}"),
        ("device.onboarded", 1, b'{"total": 5}'),
    ],
)
def test_what_is_no_body_at_all_is_told_as_such(topic: str, version: int, body: bytes) -> None:
    """A peer may write anything."""
    with pytest.raises(LogCorrupt, match=topic):
        decode(topic, version, body, KEYS)


def test_a_token_of_another_type_reads_as_erased() -> None:
    event = decode("job.failed", 2, b'{"fault": "job", "sealed": 5}', KEYS)
    assert isinstance(event, Job.Failed)
    assert event.reason == ERASED


def test_every_version_has_its_body_and_schema() -> None:
    names = {f"{topic}.v{n}.json" for topic, cls in EVENT_TYPES.items() for n in range(1, cls.VERSION + 1)}
    assert {path.name for path in FILES} == names
    assert {path.name for path in (ops.schemas.FOLDER / "events").iterdir()} == names


def test_a_body_of_version_1_is_lifted_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    class Moved(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "corpus.moved"
        VERSION: ClassVar[int] = 3
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {
            1: lambda body: {"metres": body["kilometres"] * 1000},
            2: lambda body: body | {"by": "foot"},
        }
        metres: int
        by: str

    monkeypatch.setitem(EVENT_TYPES, "corpus.moved", Moved)
    assert decode("corpus.moved", 1, b'{"kilometres": 2}') == Moved(metres=2000, by="foot")
    assert decode("corpus.moved", 2, b'{"metres": 5}') == Moved(metres=5, by="foot")
    with pytest.raises(LogCorrupt, match=r"corpus.moved v2"):
        decode("corpus.moved", 2, b'{"metres": "far"}')


if __name__ == "__main__":
    for cls in missing():
        kept = msgspec.json.format(encode(msgspec.convert(body_of(cls), cls), KEYS.seal), indent=1)
        (FOLDER / f"{cls.TOPIC}.v{cls.VERSION}.json").write_bytes(kept + b"\n")
