"""`nunet doctor`: whether this machine is fit for the jobs of others, and what to do where it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dms.cli.core import Group, State, command, pass_state
from dms.cli.failure import Failure, say
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.config import Settings

_COLUMNS = [(name.upper(), name) for name in ("name", "state", "found")]
_FAILED = "failed"
_SECONDS = 180.0  # of an engine that is slow


def add_to(cli: Group) -> None:
    @command(cli, "doctor", "nunet doctor\nnunet doctor -o json")
    @pass_state
    def doctor(state: State) -> int:
        """Check this machine: a test container tries the sandbox of jobs from inside; then clock, disks, open files,
        engine, versions and keys are checked.

        Where no daemon runs, the command checks by itself and records nothing. Exits with 1 if a check failed, and
        with 0 if there are only warnings.
        """
        if state.output.for_people:
            say("Checking this machine and the sandbox of jobs ...")
        found = _examined(state)
        if state.output.for_people:
            _show(state, found)
        else:
            state.output.record(found)
        return Exit.FAILURE if found["verdict"] == _FAILED else Exit.OK


def _examined(state: State) -> Mapping[str, Any]:
    """By the daemon; by this process where none runs on this machine. Raises Failure."""
    try:
        found: Mapping[str, Any] = state.api().post("/device/doctor", timeout_seconds=_SECONDS)
    except Failure as error:
        if error.code is not Exit.UNREACHABLE or state.given_url:
            raise
        if state.output.for_people:
            say("no daemon answers: checking without it")
        return _alone(state.load().settings)
    return found


def _alone(settings: Settings) -> dict[str, Any]:
    import asyncio

    import msgspec

    from dms.wiring.doctor import doctor_alone

    async def examine() -> Any:
        async with doctor_alone(settings) as doctor:
            return await doctor.examine()

    found: dict[str, Any] = msgspec.to_builtins(asyncio.run(examine()))
    empty = {"advice": "", "required": False}  # what is left out of a record of it
    return found | {part: [empty | row for row in found[part]] for part in ("sandbox", "machine")}


def _show(state: State, found: Mapping[str, Any]) -> None:
    rows: Sequence[Mapping[str, Any]] = [*found["sandbox"], *found["machine"]]
    state.output.rows(rows, _COLUMNS)
    for row in rows:
        if row["advice"]:
            say(f"{row['name']}: {row['advice']}")
    if found["trouble"]:
        say(f"no peer's job is taken: {found['trouble']}")
