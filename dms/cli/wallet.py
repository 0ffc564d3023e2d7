"""`nunet wallet`: new wallets, made here and shown once; neither the daemon nor a network is needed."""

from __future__ import annotations

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.failure import Failure, say
from dms.errors import Exit

NETWORKS = ("preprod", "preview", "mainnet")
EXAMPLE = "nunet wallet new --cardano --network preprod"


def add_to(cli: Group) -> None:
    group = Group("wallet", help="Create a wallet for payments.", example=EXAMPLE)
    cli.add_command(group)

    @command(group, "new", EXAMPLE)
    @click.option("-c", "--cardano", is_flag=True, help="24 words and their first address (CIP-1852).")
    @click.option("-e", "--ethereum", is_flag=True, help="A private key and its address.")
    @click.option(
        "--network",
        type=click.Choice(NETWORKS),
        help="Of Cardano; preprod and preview share their addresses.  [default: preprod]",
    )
    @pass_state
    def new(state: State, *, cardano: bool, ethereum: bool, network: str | None) -> None:
        """Create a wallet and show it once. Nothing is stored or sent anywhere.

        Whoever knows the words or the key owns the wallet: keep them off this machine.
        """
        if cardano and ethereum:
            raise Failure("cannot create both wallets", Exit.USAGE, "give one of --cardano and --ethereum")
        if not cardano and not ethereum:
            raise Failure("no wallet flag specified", Exit.USAGE, "give --cardano or --ethereum; see --help")
        from dms.adapters.wallets.maker import new_wallet

        wallet = new_wallet("cardano" if cardano else "ethereum", network or "")
        shown = {
            "address": wallet.address,
            "mnemonic": wallet.mnemonic,
            "private_key": wallet.private_key,
            "network": wallet.network,
        }
        found = {key: value for key, value in shown.items() if value}
        if state.output.for_people:
            for key in ("address", "mnemonic", "private_key"):
                if key in found:
                    click.echo(f"{key}: {found[key]}")
        else:
            state.output.record(found)
        secret = "words" if wallet.mnemonic else "key"
        kind = f" for Cardano's {'main network' if network == 'mainnet' else 'test networks'}" if cardano else ""
        say(f"A wallet{kind}. Write the {secret} down now: nobody can show it again.")
