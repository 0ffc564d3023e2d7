"""`nunet key`: a passphrase for the key that is this node's identity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dms.cli.core import Group, State, can_ask, command, pass_state
from dms.cli.failure import Failure, say
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.config import Settings
    from dms.passphrase import Passphrase

_FILE = click.Path(path_type=Path, dir_okay=False)


def add_to(cli: Group) -> None:
    group = Group("key", help="Encrypt the node's key, or decrypt it.", example="nunet key encrypt")
    cli.add_command(group)
    _add_encrypt(group)
    _add_decrypt(group)


def _add_encrypt(group: Group) -> None:
    @command(group, "encrypt", "nunet key encrypt\nnunet key encrypt --passphrase-file /etc/nunet/node.passphrase")
    @click.option("--passphrase-file", "new", metavar="FILE", type=_FILE, help="Holds the new passphrase, one line.")
    @click.option("--old-file", "old", metavar="FILE", type=_FILE, help="Holds the present passphrase, if any.")
    @pass_state
    def encrypt(state: State, new: Path | None, old: Path | None) -> None:
        """Give node.key a passphrase, or another one. It is asked for twice unless a file holds it.

        From then on each start of the DMS needs it: see general.key_passphrase_file. If you lose it, the key is lost,
        and with it what this node is owed. Earlier copies of the key stay unprotected.
        """
        from dms.keys import change_passphrase

        settings = state.load().settings
        peer_id = change_passphrase(settings, _known(settings, old), _new_passphrase(settings, new))
        say(f"The key of peer {peer_id} is encrypted.")
        if not settings.general.key_passphrase_file:
            say("Each start needs the passphrase: name its file in general.key_passphrase_file.")


def _add_decrypt(group: Group) -> None:
    @command(group, "decrypt", "nunet key decrypt --passphrase-file /etc/nunet/node.passphrase")
    @click.option("--passphrase-file", "old", metavar="FILE", type=_FILE, help="Holds the passphrase, one line.")
    @pass_state
    def decrypt(state: State, old: Path | None) -> None:
        """Remove the passphrase of node.key: whoever can read the file can then act as this node."""
        from dms.keys import change_passphrase, has_passphrase

        settings = state.load().settings
        encrypted = has_passphrase(settings)
        peer_id = change_passphrase(settings, _known(settings, old), None)
        say(f"The key of peer {peer_id} {'is no longer encrypted' if encrypted else 'has no passphrase'}.")


def _known(settings: Settings, file: Path | None) -> Passphrase:
    """That which the key has now."""
    from dms.passphrase import Passphrase, passphrase_of

    return passphrase_of(settings) if file is None else Passphrase(file)


def _new_passphrase(settings: Settings, file: Path | None) -> bytes:
    from dms.keys import has_passphrase
    from dms.passphrase import Passphrase

    set_file = settings.general.key_passphrase_file
    if file is None and set_file and not has_passphrase(settings):
        file = Path(set_file)  # an encrypted key's file holds the one that it has
    if file is not None:
        return Passphrase(file).read() or b""
    if not can_ask():
        hint = "name a file that holds it: --passphrase-file FILE"
        raise Failure("there is no terminal to ask for the passphrase at", Exit.USAGE, hint)
    asked = Passphrase(may_ask=True)
    first, again = asked.read("New passphrase of the node's key: "), asked.read("The same again: ")
    if first is None or first != again:
        raise Failure("the two passphrases differ: nothing was changed", Exit.USAGE)
    return first
