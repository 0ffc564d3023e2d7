"""Streams and topics stand in the table of events as numbers: which name has which."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from dms.adapters.eventlog.envelope import Draft
from dms.adapters.eventlog.sqlite_archive import SQLiteArchiveIndex

_REMEMBERED = 100_000  # streams kept in memory; others are looked up again


class StoredNames:
    """Those that were committed. For one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._topics: dict[int, tuple[str, int]] = {}
        self._streams: dict[int, str] = {}
        self._places: dict[int, tuple[str, str]] = {}

    def id_of(self, stream: str) -> int | None:
        row = self._connection.execute("SELECT id FROM stream WHERE name = ?", (stream,)).fetchone()
        return None if row is None else int(row[0])

    def stream(self, number: int) -> str:
        """Empty for none."""
        name = self._streams.get(number)
        if name is None:
            row = self._connection.execute("SELECT name FROM stream WHERE id = ?", (number,)).fetchone()
            name = "" if row is None else str(row[0])
            if len(self._streams) >= _REMEMBERED:
                self._streams.clear()
            self._streams[number] = name
        return name

    def places(self, numbers: set[int]) -> Mapping[int, tuple[str, str]]:
        """(kind, key) at least of these streams. In one query: of a look-up each, the looking up would be most of a
        bulk read."""
        if len(self._places) >= _REMEMBERED:
            self._places.clear()
        missing = numbers - self._places.keys()
        if missing:
            self._places.update(dict.fromkeys(missing, ("", "")))
            names = self._connection.execute(
                "SELECT id, name FROM stream WHERE id IN (SELECT value FROM json_each(?))", (str(list(missing)),)
            )
            for number, name in names:
                kind, _, key = name.partition("-")
                self._places[number] = kind, key
        return self._places

    def topic(self, number: int) -> tuple[str, int]:
        """(name, schema version). Raises KeyError."""
        return self._topics.get(number) or self.topics()[number]

    def topics(self) -> dict[int, tuple[str, int]]:
        """By number, as they are now."""
        self._topics = _topics_in(self._connection)
        return self._topics

    def sought(self, topics: Sequence[str], until: int | None) -> tuple[str, list[int]]:
        """What further SQL, with its arguments, asks for: events of these topics (none: of any), up to a position."""
        sql = ""
        if topics:
            numbers = [str(number) for number, (name, _) in self.topics().items() if name in topics]
            sql = f" AND topic IN ({','.join(numbers)})"
        return (sql, []) if until is None else (f"{sql} AND position <= ?", [until])


class NewNames:
    """Of the writing side: gives a number to what has none. For one transaction at a time."""

    def __init__(self, connection: sqlite3.Connection, archived: SQLiteArchiveIndex) -> None:
        self._connection, self._archived = connection, archived
        self._streams: dict[str, int] = {}
        self._topics: dict[tuple[str, int], int] = {}
        self._made: list[tuple[int, str]] = []  # streams, in the open transaction
        self._next = 0
        self.forget()

    def begin(self) -> None:
        """A transaction; only now, never between a stream's first event and its second."""
        if len(self._streams) >= _REMEMBERED:
            self._streams.clear()

    def of(self, draft: Draft) -> tuple[int, int]:
        """(stream, topic). Raises sqlite3.IntegrityError for a version that was archived."""
        stream = self._streams.get(draft.originator_id) or self._stream(draft.originator_id, draft.originator_version)
        topic = (draft.topic, draft.schema_version)
        return stream, self._topics.get(topic) or self._topic(topic)

    def store(self) -> None:
        """The streams that were made; topics are stored already."""
        if self._made:
            self._connection.executemany("INSERT INTO stream VALUES (?, ?)", self._made)
            self._made.clear()

    def forget(self) -> None:
        """Numbers that were given in a transaction are gone with it."""
        self._made.clear()
        self._streams.clear()
        self._topics = {topic: number for number, topic in _topics_in(self._connection).items()}
        self._next = int(self._connection.execute("SELECT coalesce(max(id), 0) + 1 FROM stream").fetchone()[0])

    def look_again(self) -> None:
        """So that the next event of a stream that was archived is looked at (see _stream)."""
        self._streams.clear()

    def _stream(self, name: str, version: int) -> int:
        """A first event needs no look-up; should its stream exist all the same, the unique name refuses the
        transaction."""
        found = None
        if version != 1:
            found = self._connection.execute("SELECT id FROM stream WHERE name = ?", (name,)).fetchone()
        if found is not None and (archived := self._archived.version_of(found[0])):
            if version <= archived:  # the unique index sees only what is in the table
                raise sqlite3.IntegrityError(f"version {version} of {name} is archived")
            return int(found[0])  # and not remembered: each further event is looked at as well
        if found is None:
            found = (self._next,)
            self._made.append((self._next, name))
            self._next += 1
        self._streams[name] = found[0]
        return int(found[0])

    def _topic(self, topic: tuple[str, int]) -> int:
        row = self._connection.execute("INSERT INTO topic (name, version) VALUES (?, ?) RETURNING id", topic).fetchone()
        self._topics[topic] = row[0]
        return int(row[0])


def _topics_in(connection: sqlite3.Connection) -> dict[int, tuple[str, int]]:
    return {number: (name, version) for number, name, version in connection.execute("SELECT * FROM topic")}
