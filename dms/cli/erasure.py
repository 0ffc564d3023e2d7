"""`nunet erasure`: what this node holds of a person is made unreadable."""

from __future__ import annotations

from typing import Any

import click

from dms.cli.core import Group, State, can_ask, command, pass_state
from dms.cli.failure import Failure, say
from dms.errors import Exit

PATIENCE_SECONDS = 3600.0  # the whole history is searched, and all views are made anew


def add_to(cli: Group) -> None:
    group = Group("erasure", help="Erase what this node holds about a person.", example="nunet erasure list")
    cli.add_command(group)
    _add_run(group)
    _add_list(group)


def _add_run(group: Group) -> None:
    @command(group, "run", "nunet erasure run <address> --dry-run\nnunet erasure run <address> --yes")
    @click.argument("subject")
    @click.option("--dry-run", is_flag=True, help="Only show what would be erased.")
    @click.option("--skip-open", is_flag=True, help="Leave what has not ended; erase the rest.")
    @click.option("-y", "--yes", is_flag=True, help="Don't ask for confirmation.")
    @pass_state
    def run(state: State, subject: str, dry_run: bool, skip_open: bool, yes: bool) -> None:
        """Erase what is known about SUBJECT: a wallet address, a transaction hash, a peer id, or a job or transfer id.

        The events stay and the history remains verifiable, but nobody can read what they said about the person any
        more. Outputs, checkpoints and received files are removed. This can't be undone."""
        api = state.api()
        body: dict[str, Any] = {"subject": subject, "skip_open": skip_open}
        found = api.post("/erasures", body | {"dry_run": True}, timeout_seconds=PATIENCE_SECONDS)
        if dry_run:
            _show(state, found)
            return
        if not yes:
            _show(state, found, quiet=not state.output.for_people)
            if not can_ask():
                raise Failure("nothing was erased: nobody can be asked here", Exit.USAGE, "say --yes")
            click.confirm("Erase this? It can't be taken back", abort=True, err=True)
        _show(state, api.post("/erasures", body, timeout_seconds=PATIENCE_SECONDS))


def _show(state: State, answer: dict[str, Any], *, quiet: bool = False) -> None:
    if quiet:
        return
    if not state.output.for_people:
        state.output.record(answer)
        return
    done = "to be erased" if answer["dry_run"] else "erased"
    rows = [{"scope": scope, "state": done} for scope in answer["erased"]]
    rows += [{"scope": one["scope"], "state": f"left: it {one['reason']}"} for one in answer["open"]]
    state.output.rows(rows, [("WHAT", "scope"), ("STATE", "state")])
    if not answer["dry_run"]:
        say(f"{answer['keys']} keys destroyed, {answer['files']} files removed")
    for name in answer["remaining"]:
        say(f"warning: {name} still holds that text: look at it, and remove it if it may go")
    if answer["more"]:
        say("there is more than one erasure takes: run it again")


def _add_list(group: Group) -> None:
    @command(group, "list", "nunet erasure list")
    @pass_state
    def list_erasures(state: State) -> None:
        """List this node's erasures, newest first. Who was erased is not recorded."""
        rows = state.api().get("/erasures", limit=1000)["items"]
        state.output.rows(
            rows,
            [
                ("ERASURE", "erasure_id"),
                ("STATE", "state"),
                ("SCOPES", "scopes"),
                ("KEYS", "keys"),
                ("FILES", "files"),
                ("REQUESTED", "requested_at"),
                ("COMPLETED", "completed_at"),
            ],
            empty="nothing was erased here",
        )
