"""The log and what is made from it: `nunet projection`, `nunet audit`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.export_file import export_lines
from dms.cli.failure import Failure, say
from dms.cli.heads import HEADS, Evidence, add_heads, check_export, fault_of, in_words
from dms.cli.output import Column
from dms.cli.text import in_path, printable
from dms.errors import ArchiveUnreadable, Exit, LogCorrupt

if TYPE_CHECKING:
    from dms.adapters.outputs.audit import OutputsChecked
    from dms.domain.chain import SignedRecord
    from dms.domain.export import Checker
    from dms.offline import Audit


def add_to(cli: Group) -> None:
    _add_projections(cli)
    _add_audit(cli)


def _add_projections(cli: Group) -> None:
    group = Group("projection", help="The views derived from the log.", example="nunet projection list")
    cli.add_command(group)

    @command(group, "list", "nunet projection list")
    @pass_state
    def list_projections(state: State) -> None:
        """List the views and the position each has reached."""
        rows = state.api().get("/projections")["items"]
        columns: list[Column] = [("NAME", "name"), ("POSITION", "position"), ("BEHIND", "behind")]
        if any(row.get("left_out") for row in rows):
            columns.append(("LEFT OUT", _left_out))
        state.output.rows(rows, columns)

    @command(group, "rebuild", "nunet projection rebuild jobs")
    @click.argument("view")
    @pass_state
    def rebuild(state: State, view: str) -> None:
        """Rebuild a view from the first event."""
        answer = state.api().post(f"/projections/{in_path(view)}/rebuild")
        say(f"view {view} was rebuilt")
        state.output.record(answer)


def _left_out(row: Mapping[str, Any]) -> str:
    """Which events a view could not take in."""
    found = row["left_out"]
    if not found:
        return ""
    return f"{found['events']} events, the first at {found['position']} ({found['topic']}: {found['error']})"


def _add_audit(cli: Group) -> None:
    group = Group("audit", help="Check the history.", example="nunet audit verify")
    cli.add_command(group)
    add_heads(group)

    @command(
        group,
        "verify",
        "nunet audit verify\nnunet audit verify --database /var/nunet/events.db\n"
        "nunet audit verify --export sp.ndjson --against cp.ndjson\n"
        "nunet audit verify --export log.ndjson --heads peer.json",
    )
    @click.option(
        "--database",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Log file to check  [default: events.db of this machine's DMS].",
    )
    @click.option(
        "--export",
        "exported",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Check this export or archive file.",
    )
    @click.option(
        "--against",
        type=click.Path(path_type=Path, dir_okay=False),
        help="With --export: the other side's export of the same job; both must agree.",
    )
    @click.option(
        "--heads",
        multiple=True,
        type=HEADS,
        help="Also check against the heads in this file, such as a peer's heads.json. Can be repeated. "
        "The heads.json beside a database is always used.",
    )
    @click.option("--peer", metavar="PEER_ID", default="", help="Whose log it is, if --database doesn't tell.")
    @pass_state
    def verify(
        state: State,
        database: Path | None,
        exported: Path | None,
        against: Path | None,
        heads: tuple[Path, ...],
        peer: str,
    ) -> int:
        """Check a history: its hash chain, its signatures, what peers have witnessed of it, that the views follow from
        it, and that the stored outputs of jobs are what was sealed.

        Works with the daemon running or stopped; an export needs neither daemon nor database. Exits with 1 and names
        the first wrong position if anything was changed, reordered, removed or inserted, or if the tail is shorter than
        a peer has seen."""
        _check_together(exported, against, heads, peer)
        if exported is None:
            return _verify_database(state, database or state.load().settings.events_db, heads, peer)
        return _verify_exports(state, exported, against, heads)


def _verify_exports(state: State, exported: Path, against: Path | None, heads: Sequence[Path]) -> int:
    for file in filter(None, (exported, against)):
        if not file.exists():
            raise Failure(f"{file}: there is no such export", Exit.NOT_FOUND)
    if against is None:
        return _verify_export(state, exported, heads)
    return _compare_exports(state, exported, against)


def _check_together(exported: Path | None, against: Path | None, heads: Sequence[Path], peer: str) -> None:
    """Options that exclude or need each other. Raises Failure."""
    if exported is None and against is not None:
        raise Failure("--against needs --export", Exit.USAGE)
    if exported is not None and peer:
        raise Failure("--peer needs --database: an export says whose it is", Exit.USAGE)
    if against is not None and heads:
        raise Failure("--heads is for a whole log; --against compares exports of one job", Exit.USAGE)


def _verify_database(state: State, path: Path, heads: Sequence[Path], peer_id: str) -> int:
    from eventsourcing.persistence import PersistenceError

    from dms.offline import Audit

    if not path.is_file():
        raise Failure(f"{path}: there is no such log", Exit.NOT_FOUND, "name it with --database")
    report: dict[str, Any] = {
        "database": str(path), "intact": False, "events": 0, "signatures": 0, "heads": None, "views": [],
        "outputs": None, "fault": "",
    }  # fmt: skip
    evidence = Evidence(path, heads, peer_id)
    try:
        audit = Audit(path)
        try:
            for report["events"] in shown(audit.chain(), "events"):
                pass
            report["heads"] = evidence.check(audit, report["events"])
            if fault := fault_of(report["heads"]):
                raise LogCorrupt(fault)
            for report["signatures"] in shown(audit.signatures(), "signatures"):
                pass
            report["views"] = list(audit.views())
            report["outputs"], fault = _check_outputs(audit)
            if fault:
                raise LogCorrupt(fault)
            report["intact"] = True
        finally:
            audit.close()
    except (LogCorrupt, ArchiveUnreadable) as error:
        report["fault"] = str(error)
    except PersistenceError as error:
        raise Failure(f"{path} can't be read as an event log: {error}") from error
    if not state.output.for_people:
        state.output.record(report)
    elif report["intact"]:
        told = (
            f"intact: the hash chain of all {report['events']} events in {path} fits, "
            f"{report['signatures']} records of providers are theirs, {in_words(report['heads'])}, "
            f"views as the log gives them: {', '.join(report['views']) or 'none'}{_outputs_in_words(report['outputs'])}"
        )
        click.echo(printable(told))
    if not report["intact"]:
        raise Failure(f"{path} does not verify: {report['fault']}")
    return Exit.OK


def _check_outputs(audit: Audit) -> tuple[dict[str, Any] | None, str]:
    """(the report, the gravest fault and how many more there are). None when there are no outputs."""
    import msgspec

    found: OutputsChecked | None = None

    def steps() -> Iterator[int]:
        nonlocal found
        for found in audit.outputs():
            yield found.seen

    for _ in shown(steps(), "outputs"):
        pass
    report = msgspec.to_builtins(found) if found else None
    return report, fault_of(report)


def _outputs_in_words(report: dict[str, Any] | None) -> str:
    """Behind the rest."""
    if report is None:
        return ""
    others = [
        (report["not_here"], "not here"),
        (report["erased"], "erased"),
        (report["cut_short"], "cut at this node's own limit and not comparable"),
    ]
    rest = "".join(f", {count} {what}" for count, what in others if count)
    return f"; outputs of jobs as they were sealed: {report['checked']}{rest}"


def _verify_export(state: State, path: Path, heads: Sequence[Path]) -> int:
    checker, found = check_export(path, heads) if heads else (_read_export(path)[0], None)
    header, footer = checker.header, checker.footer
    if header is None or footer is None:
        raise Failure(f"{path} is not an export")
    fault = fault_of(found)
    report = {
        "export": str(path), "intact": not fault, "kind": header.kind, "peer_id": header.peer_id,
        "job_id": header.job_id, "first": header.first, "events": footer.events, "position": footer.position,
        "hash": footer.hash, "heads": found, "fault": fault,
    }  # fmt: skip
    if not state.output.for_people:
        state.output.record(report)
    elif not fault:
        part = f"positions {header.first} to {footer.position} of the log"
        what = f"job {header.job_id}" if header.job_id else part
        witnessed = f"; {in_words(found)}" if found else ""
        click.echo(printable(f"intact: {footer.events} events, {what} of {header.peer_id}, signed by it{witnessed}"))
    if fault:
        raise Failure(f"{path} does not verify: {fault}")
    return Exit.OK


def _compare_exports(state: State, first: Path, second: Path) -> int:
    import msgspec

    from dms.domain.audit import compare
    from dms.domain.retry import job_of

    sides = [(checker.header, records) for checker, records in (_read_export(first), _read_export(second))]
    for path, (header, _) in zip((first, second), sides, strict=True):
        if header is None or header.kind != "job":
            raise Failure(f"{path} is not the export of a job", hint="nunet events export --job JOB")
    (asked, asked_records), (ran, ran_records) = sorted(sides, key=lambda side: not _asked_for_it(side[1]))
    if asked is None or ran is None or asked.job_id != job_of(ran.job_id):
        raise Failure(f"{first} and {second} are of different jobs")
    for side, holds in (("service", _asked_for_it(asked_records)), ("compute", _ran_it(ran_records))):
        if not holds:
            raise Failure(f"neither {first} nor {second} is the export of the job's {side} provider", Exit.USAGE)
    found = compare(ran.job_id, (asked.peer_id, asked_records), (ran.peer_id, ran_records))
    if state.output.for_people:
        for difference in found.differences:
            click.echo(printable(f"differs: {difference}"))
        if not found.differences and found.bill is not None:
            bill = found.bill
            reward = bill.reward
            told = f"both sides tell the same: {found.records_compared} records, price {bill.price} NTX, {bill.state}"
            told += f", {reward.reward_type}: {reward.to_provider} NTX to the provider" if reward else ""
            click.echo(printable(told))
    else:
        state.output.record(msgspec.to_builtins(found))
    if found.differences:
        raise Failure(f"differences between the two sides: {len(found.differences)}")
    return Exit.OK


def _asked_for_it(records: Sequence[SignedRecord]) -> bool:
    return any(record.stream.startswith("job-") for record in records)


def _ran_it(records: Sequence[SignedRecord]) -> bool:
    return any(record.stream.startswith("deployment-") for record in records)


def _read_export(path: Path) -> tuple[Checker, list[SignedRecord]]:
    """The records of a job, checked; those of a whole log are checked and not kept. Raises Failure."""
    from dms.domain.audit import check_evidence
    from dms.offline import export_checker

    checker = export_checker()
    try:
        records = checker.records(export_lines(path))
        kept = [record for record in records if checker.header is not None and checker.header.kind == "job"]
        check_evidence(kept, checker.verify)
    except LogCorrupt as error:
        raise Failure(f"{path} does not verify: {error}") from error
    return checker, kept


def shown(steps: Iterator[int], what: str) -> Iterator[int]:
    """The same steps, with their count on a terminal."""
    busy = sys.stderr.isatty()
    try:
        for reached in steps:
            if busy:
                click.echo(f"\r{reached} {what}", err=True, nl=False)
            yield reached
    finally:
        if busy:
            click.echo("\r\x1b[K", err=True, nl=False)
