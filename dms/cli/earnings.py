"""`nunet earnings`: what jobs earned and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.events import at_option
from dms.cli.failure import Failure, say
from dms.cli.references import PeerId
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.cli.output import Column

BY = ("day", "month", "peer", "device", "job")
LARGEST_PAGE = 10_000


def add_to(cli: Group) -> None:
    @command(cli, "earnings", "nunet earnings --by month\nnunet earnings --since 2026-01-01T00:00:00Z --csv > 2026.csv")
    @click.option("--by", type=click.Choice(BY), default="day", show_default=True, help="What a row is of (UTC).")
    @click.option("--role", type=click.Choice(["sp", "cp"]), help="Only jobs this node requested (sp) or ran (cp).")
    @click.option("--peer", type=PeerId(), metavar="PEER", help="Only jobs with this peer on the other side.")
    @click.option("--since", metavar="TIME", help="Only jobs that ended at or after this time.")
    @click.option("--until", metavar="TIME", help="Only jobs that ended before this time.")
    @click.option("--csv", "as_csv", is_flag=True, help="Print CSV, for a spreadsheet.")
    @at_option
    @pass_state
    def earnings(state: State, /, *, by: str, as_csv: bool, **wanted: str | None) -> None:
        """Show what this node earned by running jobs, and spent on jobs that others ran.

        It counts jobs that were paid for and are over. The device is the machine that ran the job.
        """
        if as_csv and not state.output.for_people:
            raise Failure("--csv and --output exclude each other", Exit.USAGE)
        if as_csv:
            _print_csv(state, by, wanted)
            return
        found = state.api().get("/earnings", by=by, limit=LARGEST_PAGE, **wanted)
        if not state.output.for_people:
            state.output.record(found)
            return
        columns: list[Column] = [
            (by.upper(), lambda row: row["group"] or "in all"),
            ("JOBS", "jobs"),
            ("EARNED", "earned_ntx"),
            ("CLAIMED", "claimed_ntx"),
            ("PAID OUT", "paid_ntx"),
            ("TO CLAIM", "to_claim_ntx"),
            ("SPENT", "spent_ntx"),
        ]
        rows = found["items"] and [*found["items"], found["total"]]
        state.output.rows(rows, columns, empty="no paid job is over yet")
        if found["next_token"]:
            say(f"the first {LARGEST_PAGE} rows; --since and --until show others")


def _print_csv(state: State, by: str, wanted: dict[str, str | None]) -> None:
    for line in state.api().raw_lines("/earnings", by=by, format="csv", **wanted):
        click.echo(line, nl=False)
