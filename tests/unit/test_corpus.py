"""Events as older programs wrote them are read for ever. `tests/corpus/<topic>.v<version>.json` is a body with all of
its fields, frozen: never change or remove one. A new event or version: python -m tests.unit.test_corpus adds its file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from msgspec import inspect

import ops.schemas
from dms.domain.event import EVENT_TYPES, Event, Unknown, Upcaster, decode, encode
from dms.errors import LogCorrupt

FOLDER = Path(__file__).parent.parent / "corpus"
FILES = sorted(FOLDER.glob("*.json"))
assert ops.schemas.SOURCES  # registers the events


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


def missing() -> list[type[Event]]:
    return [cls for cls in EVENT_TYPES.values() if not (FOLDER / f"{cls.TOPIC}.v{cls.VERSION}.json").is_file()]


def test_every_event_has_its_frozen_body() -> None:
    assert missing() == [], "run: python -m tests.unit.test_corpus"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_frozen_body_is_read_and_loses_nothing(path: Path) -> None:
    """Fails for a field that was removed, retyped, or added as required, without a new version."""
    topic, version, data = read(path)
    event = decode(topic, version, data)
    assert not isinstance(event, Unknown)
    if version == EVENT_TYPES[topic].VERSION:
        assert msgspec.json.decode(encode(event)) == msgspec.json.decode(data)


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
        body = sample(inspect.type_info(cls))
        kept = msgspec.json.format(encode(msgspec.convert(body, cls)), indent=1)
        (FOLDER / f"{cls.TOPIC}.v{cls.VERSION}.json").write_bytes(kept + b"\n")
