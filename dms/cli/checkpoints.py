"""`nunet checkpoint`: the checkpoints of this node's jobs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dms.cli.core import Group, State, command, pass_state
from dms.cli.text import moment

if TYPE_CHECKING:
    from dms.cli.output import Column

_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SUFFIX = ".tar.gz"


def add_to(cli: Group) -> None:
    group = Group(
        "checkpoint", help="Checkpoints of this node's jobs, to resume from.", example="nunet checkpoint list"
    )
    cli.add_command(group)

    @command(group, "list", "nunet checkpoint list -o json")
    @pass_state
    def list_checkpoints(state: State) -> None:
        """List the local checkpoints: what jobs had in /workspace, fetched from their providers.

        Resume from one with `nunet job run FILE --resume NAME`.
        """
        found = state.api().get("/run/checkpoints")
        columns: list[Column] = [
            ("NAME", "filename_path"),
            ("BYTES", "size_bytes"),
            ("CHANGED", lambda row: moment(row["last_modified"] * 1_000_000)),
        ]
        state.output.rows(found, columns, empty="no checkpoints yet; jobs that write to /workspace leave some")


def with_resume(request: dict[str, Any], resume: str | None) -> dict[str, Any]:
    """The request, to go on from a checkpoint: its file name, its path, or the id of its job."""
    if resume is None:
        return request
    name = resume + SUFFIX if _JOB_ID.fullmatch(resume) else resume
    key = next((key for key in request if key.casefold() == "params"), "params")
    params = {k: v for k, v in (request.get(key) or {}).items() if k.casefold() != "resume_job"}
    return request | {key: params | {"resume_job": {"resume": True, "progress_file": name}}}
