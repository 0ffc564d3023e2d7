"""What peers have seen of logs: `nunet audit heads`, and the part of `nunet audit verify` that uses it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.export_file import export_lines
from dms.cli.failure import Failure
from dms.cli.text import moment
from dms.errors import Exit, InvalidInput, LogCorrupt, NotFound

if TYPE_CHECKING:
    from dms.domain.export import Checker
    from dms.domain.heads import Countersignature, Heads, Witnessed
    from dms.offline import Audit

HEADS = click.Path(path_type=Path, dir_okay=False)


def add_heads(group: Group) -> None:
    @command(group, "heads", "nunet audit heads\nnunet audit heads --heads /var/nunet/heads.json")
    @click.option("--heads", "path", type=HEADS, help="File to read  [default: heads.json of this machine's DMS].")
    @pass_state
    def heads(state: State, path: Path | None) -> None:
        """List the peers that have signed the head of this DMS's log, and those whose heads it has signed.

        Works with the daemon running or stopped. A signature for one position witnesses all events up to it.
        """
        path = path or state.load().settings.events_db.with_name("heads.json")
        rows = list(_rows(_read(path, "no peer has been shown a head yet, or it is another file")))
        state.output.rows(
            rows,
            [
                ("WHAT", "what"), ("LOG OF", "peer_id"), ("POSITION", "position"), ("WITNESS", "witness"),
                ("SEEN AT", lambda row: moment(row["time"])), ("GENUINE", "genuine"),
            ],
        )  # fmt: skip


def _rows(kept: Heads) -> Iterable[dict[str, Any]]:
    for found in sorted(kept.own, key=lambda c: (c.witness, -c.head.position)):
        yield _row("own head", found)
    for found in sorted(kept.seen, key=lambda c: (c.head.peer_id, -c.head.position)):
        yield _row("peer's head", found)
    for pair in kept.contradictions:
        later = pair.later
        yield {
            **_row("contradicted", pair.witnessed),
            "later": {"position": later.position, "hash": later.hash, "time": later.time, "signature": later.signature},
        }


def _row(what: str, found: Countersignature) -> dict[str, Any]:
    """Times in Unix µs, as they were signed."""
    from dms.offline import genuine_countersignature

    head = found.head
    return {
        "what": what, "peer_id": head.peer_id, "position": head.position, "hash": head.hash, "head_time": head.time,
        "witness": found.witness, "time": found.time, "genuine": genuine_countersignature(found),
    }  # fmt: skip


def _read(path: Path, hint: str = "") -> Heads:
    """Raises Failure."""
    from dms.offline import heads_in

    try:
        return heads_in(path)
    except NotFound as error:
        raise Failure(str(error), Exit.NOT_FOUND, hint) from error
    except InvalidInput as error:
        raise Failure(str(error)) from error


class Evidence:
    """The files of heads that a database is checked with: those named, and the one beside it."""

    def __init__(self, database: Path, named: Sequence[Path], peer_id: str) -> None:
        """peer_id: whose log it is, when the user says so. Reads the files at once: what is read of the log later can
        only be more. Raises Failure for a named file that can't be read."""
        from dms.config import EVENTS_DB

        self._named = [(path, _read(path)) for path in named]
        self._peer_id, self._damage, self._is_daemons = peer_id, "", database.name == EVENTS_DB
        beside = database.with_name("heads.json")
        self._beside: list[tuple[Path, Heads]] = []
        if beside.is_file() and beside.resolve() not in [path.resolve() for path in named]:
            try:
                self._beside = [(beside, _read(beside))]
            except Failure as error:
                self._damage = error.message

    def check(self, audit: Audit, last: int) -> dict[str, Any] | None:
        """The report; None when there is no file. last: the position at which the log ends. Raises Failure when it
        can't be told whose log it is, or a file says nothing of it."""
        from dms.domain.heads import of_log

        if not self._named and not self._beside and not self._damage:
            return None
        kept = [heads for _, heads in self._named + self._beside]
        try:
            owner = self._owner(audit) or (audit.whose(kept) if kept else "")
        except InvalidInput as error:
            if not self._named and not self._is_daemons:
                return None
            raise Failure(str(error), Exit.USAGE, "name it with --peer") from error
        for path, heads in self._named:
            if not of_log([heads], owner):
                raise Failure(f"{path} keeps no head of {owner}", hint="another log's peer is named with --peer")
        found = audit.heads(kept, owner, last)
        report = reported([path for path, _ in self._named + self._beside], found)
        if self._damage:
            report["faults"].append(self._damage)
        return report

    def _owner(self, audit: Audit) -> str:
        """Whose log it is; empty when only the heads can tell. A copy under another name than the daemon's own may be
        of another DMS than the one whose folder it lies in."""
        beside = next((heads.peer_id for _, heads in self._beside), "")
        return self._peer_id or (beside if self._is_daemons else "") or audit.peer_id


def check_export(path: Path, named: Sequence[Path]) -> tuple[Checker, dict[str, Any]]:
    """(its checker, the report) of the export of a whole log. Raises Failure."""
    from dms.offline import export_against_heads, export_checker

    kept = [_read(one) for one in named]
    checker = export_checker()
    try:
        found = export_against_heads(export_lines(path), kept, checker)
    except LogCorrupt as error:
        raise Failure(f"{path} does not verify: {error}") from error
    except InvalidInput as error:
        raise Failure(f"{path}: {error}", Exit.USAGE) from error
    if not found.countersignatures and not found.faults:
        raise Failure(f"the files keep no head of {found.peer_id}, whose log {path} is")
    return checker, reported(named, found)


def reported(paths: Sequence[Path], found: Witnessed) -> dict[str, Any]:
    import msgspec

    return {"files": [str(path) for path in paths], **msgspec.to_builtins(found), "faults": list(found.faults)}


def fault_of(report: dict[str, Any] | None) -> str:
    """The gravest, and how many more there are; empty for none."""
    faults = report["faults"] if report else []
    return (faults[0] + (f" (and {len(faults) - 1} more)" if faults[1:] else "")) if faults else ""


def in_words(report: dict[str, Any] | None) -> str:
    if not report or not report["countersignatures"]:
        return "no peer's signature of its head was found, so a cut tail is known from the views only"
    peers = "1 peer" if report["witnesses"] == 1 else f"{report['witnesses']} peers"
    return f"witnessed by {peers}, up to position {report['position']}"
