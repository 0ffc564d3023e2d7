"""`nunet token`: who may call the API from elsewhere, and as what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.failure import Failure, say
from dms.errors import Exit

ROLES = ("admin", "spd", "cpd", "read")


def add_to(cli: Group) -> None:
    group = Group("token", help="Make, list and revoke tokens of the API.", example="nunet token list")
    cli.add_command(group)
    _add_create(group)
    _add_list(group)
    _add_revoke(group)


def _add_create(group: Group) -> None:
    @command(
        group, "create", "nunet token create team-a --role spd --to team-a.token\nnunet token create ops --role admin"
    )
    @click.argument("name")
    @click.option(
        "--role",
        type=click.Choice(ROLES),
        required=True,
        help="admin: everything; spd: ask for jobs, see and steer its own; cpd: this machine as a provider; read: see "
        "everything, change nothing.",
    )
    @click.option("--days", type=click.FloatRange(0), default=0, help="Days until it expires; 0 for never.")
    @click.option(
        "--to",
        "file",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Write it to a new file that only you can read, in place of standard output.",
    )
    @pass_state
    def create(state: State, name: str, role: str, days: float, file: Path | None) -> None:
        """Make a token for the client NAME. It is shown this once: the DMS keeps only a digest.

        NAME stays in the history, so it should not be a person's. Jobs belong to the client: a new token of the same
        NAME and role sees them too. Where no DMS runs here the token is recorded for its next start."""
        body = {"name": name, "role": role, "days": days}
        if file is None:
            made = _created(state, body)
        else:
            with _new_file(file) as opened:  # first: a token that can't be written down would be lost
                made = _created(state, body)
                opened.write(made["token"] + "\n")
            made = {**made, "token": str(file)}
        if state.output.for_people:
            click.echo(made["token"])
        else:
            state.output.record(made)


def _created(state: State, body: dict[str, Any]) -> dict[str, Any]:
    try:
        made: dict[str, Any] = state.api().post("/tokens", body)
    except Failure as failure:
        if failure.exit_code != Exit.UNREACHABLE or state.given_url:
            raise
        made = _recorded(state, body)
        say("no DMS runs here: the token is recorded, and is in force when it starts")
    return made


def _recorded(state: State, body: dict[str, Any]) -> dict[str, Any]:
    """Written to the log of a DMS that does not run, as the user who owns its folder."""
    import asyncio

    import dms.bootstrap  # noqa: F401  # all is loaded by now: the owner may not be let read what Python imports later
    from dms.disk import DAEMON_UMASK
    from dms.domain.api_token import Role, TokenText
    from dms.wiring.tokens import stored_tokens

    settings = state.load().settings
    os.umask(DAEMON_UMASK)

    async def create() -> TokenText:
        async with stored_tokens(settings) as tokens:
            return await tokens.create(body["name"], Role(body["role"]), body["days"])

    with _as_owner_of(settings.general.data_dir):
        text = asyncio.run(create())
    return {"token": str(text), "token_id": text.token_id, "name": body["name"], "role": body["role"]}


@contextmanager
def _as_owner_of(folder: Path) -> Iterator[None]:
    """For root: the service could not go on with files of root's."""
    owner = folder.stat() if folder.exists() else None
    if os.geteuid() != 0 or owner is None or owner.st_uid == 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


@contextmanager
def _new_file(file: Path) -> Iterator[IO[str]]:
    """Never over another one; gone again where nothing came of it. Raises Failure."""
    try:
        opened = os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w")
    except FileExistsError as error:
        raise Failure(f"{file} exists already", Exit.CONFLICT, "name another file, or remove it") from error
    with opened:
        try:
            yield opened
        except BaseException:
            file.unlink()
            raise


def _add_list(group: Group) -> None:
    @command(group, "list", "nunet token list")
    @pass_state
    def list_tokens(state: State) -> None:
        """List the tokens, newest first, without their secrets."""
        state.output.rows(
            list(state.api().items("/tokens", limit=1000)),
            [
                ("TOKEN", "token_id"),
                ("NAME", "name"),
                ("ROLE", "role"),
                ("STATE", "state"),
                ("CREATED", "created_at"),
                ("EXPIRES", "expires_at"),
            ],
            empty="there are no tokens",
        )


def _add_revoke(group: Group) -> None:
    @command(group, "revoke", "nunet token revoke team-a")
    @click.argument("token")
    @pass_state
    def revoke(state: State, token: str) -> None:
        """Revoke TOKEN: the id of one, or a name for all of that client's. It ends at once."""
        api = state.api()
        there = [row for row in api.items("/tokens", limit=1000) if token in (row["token_id"], row["name"])]
        found = [row["token_id"] for row in there if row["state"] != "revoked"]
        if not found:
            what = "is revoked already" if there else "is not known"
            raise Failure(f"{token} {what}", Exit.CONFLICT if there else Exit.NOT_FOUND, "nunet token list shows them")
        for token_id in found:
            api.delete(f"/tokens/{token_id}")
            say(f"token {token_id} is revoked")
