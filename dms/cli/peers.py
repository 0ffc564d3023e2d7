"""`nunet peer`: who else is on the network."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.text import moment, printable


def add_to(cli: Group) -> None:
    group = Group("peer", help="The peers of this node.", example="nunet peer list")
    cli.add_command(group)

    @command(group, "list", "nunet peer list\nnunet peer list --dht -o jsonl")
    @click.option("-d", "--dht", is_flag=True, help="Only the compute providers.")
    @pass_state
    def list_peers(state: State, dht: bool) -> None:
        """List the connected peers, then the compute providers that advertise themselves."""
        api = state.api()
        connected: dict[str, dict[str, Any]] = {peer["ID"]: peer for peer in _listed(api.get("/peers"))}
        advertised = set(_listed(api.get("/peers/dht")))
        rows = [
            {
                "id": peer,
                "connected": peer in connected,
                "provider": peer in advertised,
                "addresses": connected.get(peer, {}).get("Addrs", []),
                "rtt_ms": connected.get(peer, {}).get("rtt_ms"),
                "since": connected.get(peer, {}).get("since"),
            }
            for peer in sorted(connected.keys() | advertised)
        ]
        if not state.output.for_people:
            state.output.rows([row for row in rows if row["provider"] or not dht], [])
            return
        if not dht:
            _print_ids("Bootstrap peers", [_line(peer, advertised) for peer in connected.values()])
            click.echo()
        _print_ids("DHT peers", sorted(advertised))

    @command(group, "self", "nunet peer self")
    @pass_state
    def show_self(state: State) -> None:
        """Show this node's peer id and addresses."""
        answer = state.api().get("/peers/self")
        if not state.output.for_people:
            state.output.record({"id": answer["ID"], "addresses": answer["Addrs"]})
            return
        click.echo(f"Host ID: {printable(answer['ID'])}")
        click.echo(printable(", ".join(answer["Addrs"])))

    @command(group, "default", "nunet peer default\nnunet peer default 12D3KooW...\nnunet peer default 0")
    @click.argument("peer", required=False, default="")
    @pass_state
    def default(state: State, peer: str) -> None:
        """Show the default provider, which gets the requests that name none. Set it to PEER, or to none with 0."""
        api = state.api()
        answer = api.post("/peers/depreq", {"peerid": peer}) if peer else api.get("/peers/depreq")
        if state.output.for_people:
            click.echo(printable(answer["message"]))
        else:
            state.output.record(answer)


def _line(peer: Mapping[str, Any], providers: Collection[str]) -> str:
    """The id, then what is known of the connection."""
    rtt, since = peer.get("rtt_ms"), moment(peer.get("since"))
    told = ["provider" if peer["ID"] in providers else "", "" if rtt is None else f"{rtt:g} ms"]
    return "  ".join(part for part in (peer["ID"], *told, f"since {since}" if since else "") if part)


def _print_ids(heading: str, ids: Sequence[str]) -> None:
    """With the headings of the original."""
    click.echo(f"{heading} ({len(ids)})")
    for identifier in ids:
        click.echo(printable(identifier))


def _listed(answer: Any) -> list[Any]:
    """An empty network was an object with a message in the original."""
    return answer if isinstance(answer, list) else []
