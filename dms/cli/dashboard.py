"""`nunet dashboard`: where the dashboards of this node are."""

from __future__ import annotations

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.failure import Failure


def add_to(cli: Group) -> None:
    @command(cli, "dashboard", "nunet dashboard --open")
    @click.option("--open", "opened", is_flag=True, help="Open it in a browser.")
    @pass_state
    def dashboard(state: State, opened: bool) -> None:
        """Print the address of this node's dashboards: for having jobs run, and for offering this machine."""
        api = state.api()
        api.get("/livez")  # an address that nobody answers helps nobody
        address = f"{api.url}/dashboard/"
        if state.output.for_people:
            click.echo(address)
        else:
            state.output.record({"url": address})
        if opened:
            _open(address)


def _open(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        raise Failure("no browser could be opened", hint=f"open {address} in one")
