"""`nunet events` and `nunet diff`: the log itself, as it happens and as it was."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.export_file import export_lines
from dms.cli.failure import Failure, say
from dms.cli.references import JobReference, PeerId, job_id_of
from dms.cli.text import moment, printable
from dms.disk import whole_file
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.cli.client import Api

PAGE = 100_000  # events: the most that one answer has
FURTHER = 10  # times as far back, where too few of the newest events are the caller's
PREFIX = "io.nunet.dms."
SEALED = "sealed"
AT_HELP = "Show the state at this position of the log, or at a time such as 2026-01-31T12:00:00Z."


def add_to(cli: Group) -> None:
    group = Group("events", help="The event log: every state change, in order.", example="nunet events tail")
    cli.add_command(group)
    _add_tail(group)
    _add_exports(group)
    _add_diff(cli)


def _add_tail(group: Group) -> None:
    @command(group, "tail", "nunet events tail --type job,deployment --limit 20\nnunet events tail --after 0 -o jsonl")
    @click.option("-f", "--follow", is_flag=True, help="Keep printing new events.")
    @click.option("--after", type=click.IntRange(0), metavar="POSITION", help="Only events after this position.")
    @click.option(
        "-n", "--limit", type=click.IntRange(1), help="At most this many  [default: 20; no limit with --after]."
    )
    @click.option("--type", "kind", metavar="TOPICS", help="Only these types, such as job.completed or deployment.*")
    @click.option("--job", "job_id", type=JobReference(), metavar="JOB", help="Only this job.")
    @click.option("--provider", type=PeerId(), metavar="PEER", help="Only this compute provider.")
    @click.option("--since", metavar="TIME", help="Only events at or after this time.")
    @click.option("--until", metavar="TIME", help="Only events before this time.")
    @click.option("--personal", is_flag=True, help="Decrypt personal fields.")
    @click.option("--nats", is_flag=True, help="Read from NATS (nats.url): the events of every DMS that relays there.")
    @pass_state
    def tail(
        state: State,
        /,
        *,
        follow: bool,
        after: int | None,
        limit: int | None,
        nats: bool,
        personal: bool,
        **wanted: str | None,
    ) -> None:
        """Show this node's newest events, or those after a position; with --follow, live.

        To continue after an interruption, pass the last position seen to --after.
        """
        wanted["type"] = wanted.pop("kind")
        if nats:
            if personal:
                raise Failure("--personal can't be had from NATS: what leaves this machine stays sealed", Exit.USAGE)
            _tail_nats(state, follow=follow, after=after, limit=limit, wanted=wanted)
            return
        api = state.api()
        if wanted["job_id"]:
            wanted["job_id"] = job_id_of(state, wanted["job_id"])
        if after is None:
            after = None if _is_filtered(wanted) else _before_newest(api, limit or 20)
        shown = 0
        asked: dict[str, Any] = {"after": after, "limit": None if follow else PAGE, "follow": follow, **wanted}
        asked["personal"] = personal
        for event in api.lines("/events", **asked):
            _show(state, event)
            shown += 1
            if limit is not None and shown >= limit:
                return
        if not shown and state.output.for_people:
            click.echo("no events", err=True)


def _tail_nats(
    state: State, *, follow: bool, after: int | None, limit: int | None, wanted: Mapping[str, str | None]
) -> None:
    from dms.cli import nats_tail  # with NATS' client, which nothing else here needs

    def show(event: Mapping[str, Any]) -> None:
        _show(state, event)

    if not nats_tail.tail(state, show, follow=follow, after=after, limit=limit, wanted=wanted):
        click.echo("no events", err=True)


def _before_newest(api: Api, count: int) -> int | None:
    """The position behind which so many of the newest events are that the caller sees; None where there are no more of
    them, or the rest is archived. For a caller who sees few of many it looks ever further back."""
    head, back = int(api.get("/readyz")["head"]), count
    while back < head:
        try:
            newest = _newest(api, head - back, count)
        except Failure as failure:
            if failure.code is not Exit.NOT_FOUND:
                raise
            break  # it is archived
        if len(newest) == count:
            return newest[0] - 1
        back *= FURTHER
    newest = _newest(api, None, count)
    return newest[0] - 1 if len(newest) == count else None


def _newest(api: Api, after: int | None, count: int) -> Sequence[int]:
    """The positions of the newest events behind that one, at most so many. Raises Failure."""
    newest: deque[int] = deque(maxlen=count)
    while True:
        page = [int(event["position"]) for event in api.lines("/events", after=after, limit=PAGE)]
        newest.extend(page)
        if len(page) < PAGE:
            return newest
        after = page[-1]


def _is_filtered(wanted: Mapping[str, str | None]) -> bool:
    return any(wanted.values())


def _show(state: State, event: Mapping[str, Any]) -> None:
    if not state.output.for_people:
        state.output.line(event)
        return
    topic = str(event["type"]).removeprefix(PREFIX).rpartition(".v")[0]
    told = {key: value for key, value in event["data"].items() if key != SEALED}  # ciphertext says nothing to people
    said = ", ".join(f"{key} {value}" for key, value in told.items() if isinstance(value, str | int | float))
    click.echo(
        f"{event['position']:>8}  {moment(event['time'])}  {printable(topic):<32}  "
        f"{printable(str(event['subject']))}  {printable(said)[:100]}".rstrip()
    )


def _add_exports(group: Group) -> None:
    @command(group, "export", "nunet events export -f log.ndjson\nnunet events export --job <job-id> -f job.ndjson")
    @click.option(
        "--job", "job_id", type=JobReference(), metavar="JOB", help="Only this job; this node signs each record."
    )
    @click.option(
        "-f",
        "--file",
        "path",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File to write  [default: standard output].",
    )
    @pass_state
    def export(state: State, job_id: str | None, path: Path | None) -> None:
        """Export the event log, or one job of it, in a form that can be verified anywhere.

        The recipient checks the file without this node: nunet audit verify --export FILE.
        """  # fmt: skip
        job_id = job_id_of(state, job_id) if job_id else None
        lines = state.api().raw_lines("/events/export", job_id=job_id)
        if path is None:
            for line in lines:
                click.echo(line, nl=False)
            return
        with whole_file(path) as file:
            for line in counted(lines, "lines"):
                file.write(line)
        say(f"{path} is written; check it with: nunet audit verify --export {path}")

    @command(group, "import", "nunet events import log.ndjson --database copy.db")
    @click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, exists=True))
    @click.option(
        "--database", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The log to create."
    )
    def import_events(path: Path, database: Path) -> None:
        """Create an event log from an export: same positions, same hashes. The export must be of a whole log and
        verify.

        It is for reading: nunet audit verify --database FILE, nunet replay --database FILE. An export has no keys, so a
        DMS on it shows what it holds and takes no jobs.
        """
        from dms.offline import import_export

        events = max(import_export(counted(export_lines(path), "lines"), database), default=0)
        say(f"{database} holds {events} events")


def counted(lines: Iterable[bytes], what: str) -> Iterator[bytes]:
    """The same lines, with their count on a terminal."""
    busy = sys.stderr.isatty()
    try:
        for number, line in enumerate(lines, 1):
            if busy and number % 1000 == 0:
                click.echo(f"\r{number} {what}", err=True, nl=False)
            yield line
    finally:
        if busy:
            click.echo("\r\x1b[K", err=True, nl=False)


def _add_diff(cli: Group) -> None:
    @command(cli, "diff", "nunet diff 0 2\nnunet diff 2026-01-31T12:00:00Z -o json")
    @click.argument("start", metavar="FROM")
    @click.argument("end", metavar="[TO]", required=False)
    @pass_state
    def diff(state: State, start: str, end: str | None) -> None:
        """Show what changed between two positions of the log, or two times. TO defaults to now."""
        found = state.api().get("/diff", **{"from": start, "to": end})
        if not state.output.for_people:
            state.output.record(found)
            return
        click.echo(f"from position {found['from']} to {found['to']}: {found['events']} events", err=True)
        rows = [row | {"view": view} for view in ("jobs", "capacity") for row in found[view]]
        state.output.rows(rows, [("VIEW", "view"), ("KEY", "key"), ("CHANGED", _changes)], empty="nothing changed")


def _changes(row: Mapping[str, Any]) -> str:
    before, after = row["before"], row["after"]
    if before is None or after is None:
        return "new" if before is None else "gone"
    hidden = ("timeline", "position")
    names = [key for key in after if key not in hidden and before.get(key) != after[key]]
    return ", ".join(f"{name}: {_brief(name, before.get(name))} to {_brief(name, after[name])}" for name in names)


def _brief(name: str, value: Any) -> str:
    if name.endswith("_at"):
        return moment(value) or "nothing"
    if name.endswith("_seconds") and isinstance(value, int | float):
        return f"{value:g}"
    if isinstance(value, dict):
        return "/".join(str(part) for part in value.values())
    return "nothing" if value in ("", None) else str(value)


def at_option(function: Any) -> Any:
    """Decorator: `--at`, for commands that show a view."""
    return click.option("--at", "as_of", metavar="MOMENT", help=AT_HELP)(function)
