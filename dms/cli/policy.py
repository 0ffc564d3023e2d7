"""`nunet policy`: whose jobs, and which images, this machine takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.events import at_option
from dms.cli.failure import Failure, say
from dms.cli.text import moment
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.cli.client import Api

MOST_TRIES = 20  # while others change the lists each time
Lists = dict[str, list[str]]
"""allow, deny: entries"""
_KINDS = {"image": "images", "peer": "peers"}


def add_to(cli: Group) -> None:
    group = Group(
        "policy", help="Whose jobs, and which images, this machine takes.", example="nunet policy deny peer 12D3KooW..."
    )
    cli.add_command(group)
    _add_show(group)
    _add_change(group, "allow", "Take only what is on this list.")
    _add_change(group, "deny", "Never take these, even if they are allowed.")
    _add_remove(group)
    _add_refused(group)


def _add_show(group: Group) -> None:
    @command(group, "show", "nunet policy show\nnunet policy show -o json")
    @at_option
    @pass_state
    def show(state: State, as_of: str | None) -> None:
        """Show the lists. They hold beside job.image_allow and job.image_deny: both must allow."""
        found = state.api().get("/device/policy", as_of=as_of)
        if not state.output.for_people:
            state.output.record(found)
            return
        rows = [
            {"LIST": f"{word} {kind}", "ENTRY": entry}
            for kind, name in _KINDS.items()
            for word in ("allow", "deny")
            for entry in found[name][word]
        ]
        state.output.rows(rows, [("LIST", "LIST"), ("ENTRY", "ENTRY")], "all images and all peers are taken")


def _add_change(group: Group, word: str, text: str) -> None:
    example = f"nunet policy {word} image 'ghcr.io/nunet/*'\nnunet policy {word} peer 12D3KooW..."

    @command(group, word, example)
    @click.argument("kind", type=click.Choice(list(_KINDS)))
    @click.argument("entries", nargs=-1, required=True, metavar="ENTRY...")
    @pass_state
    def change(state: State, kind: str, entries: tuple[str, ...]) -> None:
        def added(lists: Lists) -> Lists:
            return lists | {word: list(dict.fromkeys([*lists[word], *entries]))}

        lists = change_lists(state.api(), _KINDS[kind], added)
        say(f"{word} {kind}: {', '.join(lists[word])}")

    change.help = f"{text}\n\nIt holds at once for what is asked from then on; jobs that run go on."


def _add_remove(group: Group) -> None:
    @command(group, "remove", "nunet policy remove peer 12D3KooW...")
    @click.argument("kind", type=click.Choice(list(_KINDS)))
    @click.argument("entries", nargs=-1, required=True, metavar="ENTRY...")
    @pass_state
    def remove(state: State, kind: str, entries: tuple[str, ...]) -> None:
        """Take entries off both lists, allow and deny."""

        def without(lists: Lists) -> Lists:
            missing = [entry for entry in entries if entry not in lists["allow"] + lists["deny"]]
            if missing:
                raise Failure(f"not on a list: {', '.join(missing)}", Exit.NOT_FOUND, "nunet policy show")
            return {word: [entry for entry in kept if entry not in entries] for word, kept in lists.items()}

        change_lists(state.api(), _KINDS[kind], without)
        say(f"removed: {', '.join(entries)}")


def _add_refused(group: Group) -> None:
    @command(group, "refused", "nunet policy refused\nnunet policy refused -o json")
    @pass_state
    def refused(state: State) -> None:
        """Show what peers wanted and did not get, since the daemon started, and why: whatever the reason."""
        rows = state.api().get("/device/refusals")["items"]
        columns: list[Any] = [("LAST", lambda row: moment(row["last_at"])), ("TIMES", "count"), ("PEER", "peer_id")]
        state.output.rows(rows, [*columns, ("REASON", "reason")], "nothing was refused")


def change_lists(api: Api, kind: str, change: Callable[[Lists], Lists]) -> Lists:
    """Those of `images` or `peers`, as they are afterwards; changed anew where somebody else changed them meanwhile.
    Raises Failure."""
    tries = 0
    while True:
        policy, tag = api.get_tagged("/device/policy")
        lists = change(policy[kind])
        policy[kind] = lists
        try:
            api.put("/device/policy", policy, tag)
        except Failure as failure:
            tries += 1
            if failure.exit_code != Exit.CONFLICT or tries == MOST_TRIES:
                raise
        else:
            return lists
