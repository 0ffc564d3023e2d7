"""What is done with a log, an export or heads without a daemon: they are checked, run again, imported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from eventsourcing.persistence import PersistenceError

from dms.adapters.eventlog.audit import check_signatures, import_log
from dms.adapters.eventlog.facts import FactReader
from dms.adapters.eventlog.mapper import LogStore
from dms.adapters.eventlog.sqlite import SQLiteRecorder, new_log
from dms.adapters.eventlog.sqlite_scan import scan
from dms.adapters.eventlog.verifier import Verifier
from dms.adapters.heads.file import read_heads
from dms.adapters.outputs.audit import OutputsChecked, check_outputs
from dms.adapters.p2p.identity import verify_signature
from dms.adapters.views.check import check_views
from dms.adapters.views.replay import replay
from dms.application.ports.outputs import SealedLog
from dms.application.records.seals import SEALED_TOPICS, output_of, scopes_of, sealed_by
from dms.config import EVENTS_DB
from dms.domain.deployment import Deployment
from dms.domain.device import Device
from dms.domain.erasure import Erasure
from dms.domain.event import Event
from dms.domain.export import Checker
from dms.domain.heads import Countersignature, Heads, Witnessed, countersignatures, held_against, is_genuine, whose
from dms.domain.policy import Policy
from dms.domain.what_if import WhatIf
from dms.errors import ArchiveUnreadable, InvalidInput, LogCorrupt, Unavailable
from projections.all import all_projections
from projections.base import Folds, Projection


class Audit:
    """Of a log in use or not. Each step yields how far it is, and raises LogCorrupt or
    ArchiveUnreadable, naming what does not fit or is not there."""

    def __init__(self, database: Path) -> None:
        self._recorder = SQLiteRecorder(database, own=False)
        self._store, self._verifier = LogStore(self._recorder), Verifier(self._recorder)
        # Those beside it are not of a copy that has another name, which may be of another DMS, or older.
        self._views = database.with_name("views.db") if database.name == EVENTS_DB else None
        self._outputs = database.with_name("logs") if database.name == EVENTS_DB else None

    def close(self) -> None:
        self._recorder.close()

    def chain(self) -> Iterator[int]:
        """Positions. At the end also what the chain does not see: the keys of personal data, and the indices."""
        yield from self._verifier.chain()
        self._verifier.keys()
        self._verifier.structure()

    def signatures(self) -> Iterator[int]:
        """Records of providers, each against its author's key."""
        return check_signatures(self._store, verify_signature)

    @property
    def peer_id(self) -> str:
        """Whose log it is; empty when no event says so: the DMS never offered its device."""
        found = self._store.read(0, 1, topics=(Device.Onboarded.TOPIC,))
        return found[0].originator_id.removeprefix(f"{Device.KIND}-") if found else ""

    def heads(self, kept: Sequence[Heads], peer_id: str, last: int) -> Witnessed:
        """That peer's log, which ends at `last`, against what is kept of its heads."""
        return held_against(kept, peer_id, last, self._link_at, verify_signature)

    def whose(self, kept: Sequence[Heads]) -> str:
        """The peer whose log it is, as what is kept of heads tells. Raises InvalidInput when it does not."""
        return whose(kept, self._link_at)

    def _link_at(self, position: int) -> bytes | None:
        """None where the log no longer has it; that it has no gap, `chain` has shown."""
        try:
            return self._recorder.previous_hash(position + 1)
        except (LogCorrupt, ArchiveUnreadable):
            return None

    def views(self) -> Iterator[str]:
        """Names of the views that are what the log gives; none when there is no views.db beside events.db."""
        if self._views is not None and self._views.is_file():
            yield from check_views(self._views, all_projections(), self._store)

    def outputs(self) -> Iterator[OutputsChecked]:
        """What is stored of the jobs' outputs; nothing when there is no folder of them beside events.db."""
        if self._outputs is None or not self._outputs.is_dir():
            return
        sealed: dict[str, SealedLog] = {}
        erased: set[str] = set()
        position, topics = 0, (*SEALED_TOPICS, Erasure.Requested.TOPIC)
        while page := self._store.read(position, 1_000, topics=topics):
            for one in page:
                kind, output = one.originator_id.partition("-")[0], output_of(one)
                if (seal := sealed_by(one)) is not None and (kind == Deployment.KIND or output not in sealed):
                    sealed[output] = seal
                erased.update(scopes_of(one))
            position = page[-1].position
        yield from check_outputs(self._outputs, sealed, erased)


class Replay:
    """A log in use or not, run again up to where it ends now. Each step yields how many events it took. Reads only."""

    def __init__(self, database: Path, policy: Policy | None, changes_kept: int) -> None:
        self._database, self._recorder = database, SQLiteRecorder(database, own=False)
        self.head = self._recorder.head
        self.views: dict[str, tuple[Projection[Any], dict[str, Any]]] = {p.name: (p, {}) for p in all_projections()}
        self.what_if = WhatIf(policy, changes_kept) if policy is not None else None

    def close(self) -> None:
        self._recorder.close()

    def fold(self) -> Iterator[int]:
        """Into `views`, and `what_if` where there is a policy."""
        folds, what_if = Folds(self.views.values()), self.what_if

        def reads(event_type: type[Event]) -> bool:
            return folds.reads(event_type) or (what_if is not None and event_type in what_if.READS)

        return replay(
            FactReader(self._recorder, reads), self.head, folds, what_if.take if what_if is not None else None
        )

    def scan(self) -> Iterator[int]:
        return scan(self._database, self.head)


def export_checker() -> Checker:
    return Checker(verify_signature)


def export_against_heads(lines: Iterable[bytes], kept: Sequence[Heads], checker: Checker) -> Witnessed:
    """The export of a whole log, held against what is kept of its author's heads. Raises LogCorrupt where it does
    not verify itself; InvalidInput when it is of one job, whose events are not neighbours, or of a part of a log."""
    wanted = {c.head.position for heads in kept for c in countersignatures(heads)}
    links: dict[int, bytes] = {}
    for record in checker.records(lines):
        if record.position in wanted:
            links[record.position] = bytes.fromhex(record.hash)
    header = checker.header
    if header is None or checker.footer is None or header.kind != "log" or header.first != 1:
        raise InvalidInput("only the export of a whole log can be held against heads")
    return held_against(kept, header.peer_id, checker.footer.position, links.get, checker.verify)


def heads_in(path: Path) -> Heads:
    """Raises NotFound; InvalidInput when it is not a file of heads."""
    return read_heads(path)


def genuine_countersignature(found: Countersignature) -> bool:
    return is_genuine(found, verify_signature)


def import_export(lines: Iterable[bytes], database: Path) -> Iterator[int]:
    """See import_log. When it raises, no database is left. Raises InvalidInput when there is one already, Unavailable
    when it can't be written."""
    with new_log(database) as recorder:
        try:
            yield from import_log(lines, recorder, verify_signature)
        except PersistenceError as error:
            raise Unavailable(f"{database} can't be written: {error}") from error
