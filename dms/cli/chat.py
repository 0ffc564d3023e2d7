"""`nunet chat`: talk with the user of another node, a line at a time."""

from __future__ import annotations

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.failure import Failure
from dms.cli.text import printable
from dms.errors import Exit

COLUMNS = (("ID", "id"), ("Stream ID", "stream_id"), ("From Peer", "from_peer"), ("Time Opened", "time_opened"))


def add_to(cli: Group) -> None:
    group = Group("chat", help="Talk with users of other nodes.", example="nunet chat list")
    cli.add_command(group)

    @command(group, "start", "nunet chat start 12D3KooW...")
    @click.argument("peers", nargs=-1, metavar="PEER")
    @pass_state
    def start(state: State, peers: tuple[str, ...]) -> None:
        """Call the user of PEER. Each line you type is sent; Ctrl-D ends the chat."""
        from dms.cli.talk import talk

        talk(state, "start", peerID=_one(peers, "no peer ID specified", "cannot start multiple chats"))

    @command(group, "join", "nunet chat join 0")
    @click.argument("chats", nargs=-1, metavar="ID")
    @pass_state
    def join(state: State, chats: tuple[str, ...]) -> None:
        """Join chat ID, from `nunet chat list`. Each line you type is sent; Ctrl-D ends the chat."""
        chat = _one(chats, "no chat ID specified", "unable to join multiple chats")
        if not (chat.isascii() and chat.isdigit()):
            raise Failure("argument is not integer", Exit.USAGE, "nunet chat list")
        if int(chat) not in [waiting["id"] for waiting in state.api().get("/peers/chat")]:
            raise Failure("no incoming stream match chat ID specified", Exit.NOT_FOUND, "nunet chat list")
        from dms.cli.talk import talk

        talk(state, "join", streamID=int(chat))

    @command(group, "list", "nunet chat list")
    @pass_state
    def list_chats(state: State) -> None:
        """List the chats that peers have started and nobody has joined."""
        state.output.rows(state.api().get("/peers/chat"), COLUMNS, "no incoming chats")

    @command(group, "clear", "nunet chat clear")
    @pass_state
    def clear(state: State) -> None:
        """End all waiting chats."""
        answer = state.api().post("/peers/chat/clear")
        if state.output.for_people:
            click.echo(printable(answer["message"]))
        else:
            state.output.record(answer)


def _one(given: tuple[str, ...], none: str, many: str) -> str:
    if len(given) != 1:
        raise Failure(many if given else none, Exit.USAGE)
    return given[0]
