"""The real event log on a disk that is slow, full or breaks off. What it has committed survives a kill; what it had not
is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from eventsourcing.persistence import OperationalError

from dms.adapters.eventlog.envelope import Draft, Place
from dms.adapters.eventlog.sqlite import SQLiteRecorder

QUICK_SECONDS, SLOW_SECONDS = 0.000_01, 0.02  # below and above what makes the log commit in a thread


class Disk:
    """Of one node, over all its lives. on_commit: gets what is durable from now on."""

    def __init__(self, random: Random, on_commit: Callable[[Sequence[Draft]], None]) -> None:
        self.on_commit, self._random = on_commit, random
        self.full = self.slow = False
        self.refusals = 0

    def check_room(self) -> None:
        if self.full:
            self.refusals += 1
            raise OperationalError("database or disk is full")

    def commit_seconds(self) -> float:
        return SLOW_SECONDS if self.slow else QUICK_SECONDS

    def thread_seconds(self) -> float:
        return self._random.random() * (2.0 if self.slow else 0.002)


class SimulatedRecorder(SQLiteRecorder):
    """For one life of a node."""

    def __init__(self, database: Path, disk: Disk) -> None:
        super().__init__(database)
        self._disk = disk
        self._inserted: Sequence[Draft] = ()

    def insert(self, drafts: Sequence[Draft]) -> list[Place]:
        self._disk.check_room()
        places = super().insert(drafts)
        self._inserted = drafts
        return places

    def commit(self) -> float:
        """Whether a commit is made in a thread follows from how long they take: so that is drawn, too."""
        super().commit()
        self._disk.on_commit(self._inserted)
        return self._disk.commit_seconds()

    def set_note(self, name: str, value: bytes) -> None:
        self._disk.check_room()
        super().set_note(name, value)

    def probe(self) -> None:
        self._disk.check_room()

    def kill(self) -> None:
        """As when its process is killed: nothing more is written."""
        self._release()
