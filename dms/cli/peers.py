"""`nunet peer`: who else is on the network."""

from __future__ import annotations

from typing import Any

from dms.cli.core import Group, State, command, pass_state


def add_to(cli: Group) -> None:
    group = Group("peer", help="The peers of this node.", example="nunet peer list")
    cli.add_command(group)

    @command(group, "list", "nunet peer list -o jsonl")
    @pass_state
    def list_peers(state: State) -> None:
        """List the peers: connected ones, and compute providers that advertise themselves."""
        api = state.api()
        connected: dict[str, list[str]] = {peer["ID"]: peer["Addrs"] for peer in _listed(api.get("/peers"))}
        advertised = set(_listed(api.get("/peers/dht")))
        rows = [
            {
                "id": peer,
                "connected": peer in connected,
                "provider": peer in advertised,
                "addresses": connected.get(peer, []),
            }
            for peer in sorted(connected.keys() | advertised)
        ]
        state.output.rows(
            rows,
            [
                ("PEER", "id"),
                ("CONNECTED", "connected"),
                ("PROVIDER", "provider"),
                ("ADDRESSES", lambda row: ", ".join(row["addresses"])),
            ],
            empty="no peers yet",
        )

    @command(group, "self", "nunet peer self")
    @pass_state
    def show_self(state: State) -> None:
        """Show this node's peer id and addresses."""
        answer = state.api().get("/peers/self")
        state.output.record(
            {"id": answer["ID"], "addresses": answer["Addrs"]},
            [("Host ID", "id"), ("Addresses", lambda row: ", ".join(row["addresses"]))],
        )


def _listed(answer: Any) -> list[Any]:
    """An empty network was an object with a message in the original."""
    return answer if isinstance(answer, list) else []
