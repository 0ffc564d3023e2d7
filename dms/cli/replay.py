"""History run again: `nunet replay`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.failure import Failure
from dms.errors import Exit, InvalidInput

if TYPE_CHECKING:
    from dms.domain.policy import Policy


def add_to(cli: Group) -> None:
    @command(cli, "replay", "nunet replay\nnunet replay --with policy.json")
    @click.option(
        "--with",
        "policy_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Pricing and matching policy to try (schemas/policy.json): what would it have decided differently?",
    )
    @click.option(
        "--database",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Log file to replay  [default: events.db of this machine's DMS].",
    )
    @click.option(
        "--limit", type=click.IntRange(0, 100_000), default=50, show_default=True, help="Show this many changed jobs."
    )
    @pass_state
    def replay(state: State, policy_file: Path | None, database: Path | None, limit: int) -> None:
        """Replay the history into fresh views and report the speed. Writes nothing.

        Works with the daemon running or stopped. The speed is compared with a bare scan that reads and decodes the same
        rows. With a policy, each job's request is decided again from what the log knew at the time.
        """
        report = _replayed(database or state.load().settings.events_db, _policy(policy_file), limit)
        if not state.output.for_people:
            state.output.record(report)
            return
        click.echo(
            f"{report['events']} events into {len(report['views'])} fresh views in {report['seconds']:.2f} s: "
            f"{report['events_per_second']} a second, a bare scan {report['scan_events_per_second']} "
            f"(ratio {report['ratio']:.2f})"
        )
        state.output.rows(report["views"], [("VIEW", "name"), ("ROWS", "rows")])
        if report["what_if"] is not None:
            _show(state, report["what_if"])


def _policy(path: Path | None) -> Policy | None:
    from dms.domain.policy import MOST_BYTES, read_policy

    if path is None:
        return None
    if not path.is_file():
        raise Failure(f"{path}: there is no such policy", Exit.NOT_FOUND)
    try:
        with path.open("rb") as file:
            return read_policy(file.read(MOST_BYTES + 1))
    except InvalidInput as error:
        raise Failure(f"{path}: {error}", Exit.USAGE) from error


def _replayed(database: Path, policy: Policy | None, limit: int) -> dict[str, Any]:
    import msgspec
    from eventsourcing.persistence import PersistenceError

    from dms.offline import Replay

    if not database.is_file():
        raise Failure(f"{database}: there is no such log", Exit.NOT_FOUND, "name it with --database")
    try:
        history = Replay(database, policy, limit)
        try:
            events, seconds = timed(history.fold(), "replay", history.head)
            _, scanned = timed(history.scan(), "bare scan", history.head)
        finally:
            history.close()
    except PersistenceError as error:
        raise Failure(f"{database} can't be read as an event log: {error}") from error
    what_if = history.what_if
    return {
        "database": str(database),
        "events": events,
        "seconds": round(seconds, 3),
        "events_per_second": round(events / seconds),
        "scan_events_per_second": round(events / scanned),
        "ratio": round(scanned / seconds, 3),
        "views": [{"name": name, "rows": len(rows)} for name, (_, rows) in history.views.items()],
        "what_if": None if what_if is None else msgspec.to_builtins(what_if.findings()),
    }


def timed(steps: Iterator[int], what: str, total: int) -> tuple[int, float]:
    """(sum of the steps, seconds), with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown) as progress:
        task = progress.add_task(what, total=total)
        done, started = 0, time.perf_counter()
        for count in steps:
            done += count
            progress.update(task, completed=done)
        return done, max(time.perf_counter() - started, 1e-9)


def _show(state: State, found: dict[str, Any]) -> None:
    click.echo(
        f"\nof {found['compared']} jobs {found['placed_elsewhere']} would have gone elsewhere, "
        f"{found['not_placed']} nowhere, {found['priced_differently']} at another price: "
        f"{found['would_price']} NTX in all in place of {found['price']}"
    )
    if found["unexplained"]:
        click.echo(f"{found['unexplained']} more were decided on what the log does not hold, and are left out")
    if found["changes"]:
        columns = ("job_id", "provider", "price", "would_provider", "would_price", "why")
        state.output.rows(found["changes"], [(name.upper().replace("_", " "), name) for name in columns])
