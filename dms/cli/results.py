"""`nunet job results`: what a job left, as a list or as files of the user's own."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.failure import Failure, say
from dms.cli.references import job_argument
from dms.cli.text import in_path, moment, printable
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.cli.client import Api
    from dms.cli.output import Column

POLL_SECONDS = 0.5
LIST_SECONDS = 600.0  # the daemon may have to open a large archive
TRIES = 5  # of a file whose connection breaks
MOST_FILES = 200_000
_PART = ".part"
Row = Mapping[str, Any]
Show = Callable[[int], None]
"""Bytes of the files that are here so far, all together."""


def add_to(group: Group) -> None:
    @command(
        group, "results", "nunet job results @last\nnunet job results 0199 -d out results/model.bin\n"
        "nunet job results 0199 --list"
    )  # fmt: skip
    @click.option("-d", "--dir", "folder", type=click.Path(path_type=Path), metavar="DIR",
                  help="Where the files go  [default: results-JOB].")  # fmt: skip
    @click.option("--list", "only_list", is_flag=True, help="List the files; write none.")
    @click.option("--no-wait", is_flag=True, help="Take what is here now, such as the newest checkpoint's files.")
    @pass_state
    @job_argument
    @click.argument("paths", nargs=-1, metavar="[PATH]...")
    def results(
        state: State, *, job_id: str, folder: Path | None, only_list: bool, no_wait: bool, paths: tuple[str, ...]
    ) -> None:
        """Fetch what a job left: all of it, or the files and folders at PATH.

        Files that are there already, whole, are left as they are; one that was cut off goes on where it stopped. While
        the job runs, the files of its newest checkpoint are taken.
        """
        api = state.api()
        found = _settled(state, api, job_id, wait=not (no_wait or only_list))
        files = _chosen(list(_files(api, job_id)), paths)
        if only_list:
            _list(state, found, files)
            return
        _say_what(found)
        if not files:
            raise Failure(found["reason"] or "the job left no such files", Exit.NOT_FOUND)
        target = folder or Path(f"results-{job_id[:8]}")
        with _bar(state, sum(file["size_bytes"] for file in files)) as show:
            _fetch_all(api, job_id, files, target, show)
        if state.output.for_people:
            click.echo(printable(f"{len(files)} {'file' if len(files) == 1 else 'files'} in {target}"))
        else:
            told = {name: found.get(name, 0) for name in ("origin", "left_out")}
            state.output.record({"folder": str(target), "files": len(files), **told})


def _settled(state: State, api: Api, job_id: str, *, wait: bool) -> Row:
    """What the daemon says of the results, once they are not on their way any more."""
    path = f"/jobs/{in_path(job_id)}/results"
    found = _ask(api, path)
    if not wait or found["state"] != "fetching":
        return found
    with _bar(state, found["size_bytes"], "from the provider") as show:
        while found["state"] == "fetching":
            show(found["done_bytes"])
            time.sleep(POLL_SECONDS)
            found = _ask(api, path)
    return found


def _ask(api: Api, path: str) -> Row:
    found: Row = api.get_slowly(path, LIST_SECONDS, limit=1)
    return found


def _files(api: Api, job_id: str) -> Iterator[Row]:
    """All of them. Raises Failure when there are more than any node gives."""
    after = ""
    for _ in range(MOST_FILES // 1_000):
        page = api.get_slowly(f"/jobs/{in_path(job_id)}/results", LIST_SECONDS, limit=1_000, after=after)
        yield from page["items"]
        if not (after := page["next_token"]):
            return
    raise Failure(f"the job left more than {MOST_FILES} files")


def _chosen(files: Sequence[Row], paths: Sequence[str]) -> list[Row]:
    """Raises Failure for a path that names nothing."""
    wanted = [path.strip("/") for path in paths]
    for path in wanted:
        if not any(_is_below(file["path"], path) for file in files):
            raise Failure(f"there is no {path!r} among what the job left", Exit.NOT_FOUND, "nunet job results --list")
    return [file for file in files if not wanted or any(_is_below(file["path"], path) for path in wanted)]


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _list(state: State, found: Row, files: Sequence[Row]) -> None:
    _say_what(found)
    columns: list[Column] = [
        ("BYTES", "size_bytes"),
        ("MODIFIED", lambda row: moment(row["modified_at"])),
        ("SHA256", "sha256"),
        ("PATH", lambda row: printable(row["path"])),
    ]
    state.output.rows(files, columns, empty=found["reason"] or "the job left no such files")


def _say_what(found: Row) -> None:
    if found["origin"] == "checkpoint":
        why = found["reason"] or "the results are not here yet"
        say(f"{why}; these files are from checkpoint {found['checkpoint']}")
    if left_out := found.get("left_out", 0):  # an older daemon does not tell
        say(f"{left_out} more could not be kept: links, devices, or names that are too long or not UTF-8")


# --- fetching --------------------------------------------------------------------------------------
def _fetch_all(api: Api, job_id: str, files: Sequence[Row], target: Path, show: Show) -> None:
    done = 0
    target.mkdir(parents=True, exist_ok=True)
    root = target.resolve()
    for file in files:
        place = _place(root, file["path"])
        if _digest(place) != file["sha256"]:
            address = f"/jobs/{in_path(job_id)}/results/{_in_url(file['path'])}"
            _fetch(api, address, file, place, partial(_shown, show, done))
        done += file["size_bytes"]
        show(done)


def _shown(show: Show, before: int, of_this_file: int) -> None:
    show(before + of_this_file)


def _place(root: Path, path: str) -> Path:
    """Where it goes: always below root, over no link. Raises Failure."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise Failure(f"the daemon names a file {path!r}, which leads out of the folder")
    at = root
    for part in parts[:-1]:
        at /= part
        try:
            at.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise Failure(f"{at} is in the way: it is no folder") from error
        if at.is_symlink():
            raise Failure(f"{at} is a link: nothing is written through it")
    return at / parts[-1]


def _fetch(api: Api, address: str, file: Row, place: Path, show: Show) -> None:
    """Whole and checked, or not at all; what is there of it is gone on with. Raises Failure."""
    part = place.with_name(place.name + _PART)
    for last in (*[False] * (TRIES - 1), True):
        try:
            _go_on(api, address, file, part, show)
        except Failure as failure:
            if last or failure.code not in (Exit.UNREACHABLE, Exit.TIMED_OUT):
                raise
            time.sleep(POLL_SECONDS)
            continue
        if _digest(part) == file["sha256"]:
            _publish(part, place, file)
            return
        part.unlink(missing_ok=True)
    raise Failure(f"{file['path']} does not have the SHA-256 that the list has: {file['sha256']}", Exit.DAMAGED)


def _go_on(api: Api, address: str, file: Row, part: Path, show: Show) -> None:
    handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with os.fdopen(handle, "r+b", buffering=0) as out:
        have = os.fstat(handle).st_size
        if have >= file["size_bytes"]:
            out.truncate(file["size_bytes"])
            return
        with api.content(address, have, file["sha256"]) as (first, pieces):
            out.truncate(first)
            at = out.seek(first)
            for piece in pieces:
                at += out.write(piece)
                if at > file["size_bytes"]:
                    raise Failure(f"the daemon sends more of {file['path']} than it said")
                show(at)


def _publish(part: Path, place: Path, file: Row) -> None:
    """Whoever asked owns it; it may be run where the job's could."""
    if file["mode"] & stat.S_IXUSR:
        part.chmod(part.stat().st_mode | (part.stat().st_mode & 0o444) >> 2)
    if place.is_symlink() or place.is_dir():
        raise Failure(f"{place} is in the way: it is no file")
    part.replace(place)


def _digest(path: Path) -> str:
    """Empty when there is no such file."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            is_file = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            return hashlib.file_digest(file, "sha256").hexdigest() if is_file else ""
    except OSError:
        return ""


def _in_url(path: str) -> str:
    return "/".join(in_path(part) for part in path.split("/"))


@contextmanager
def _bar(state: State, total: int, name: str = "results") -> Iterator[Show]:
    """A bar on a terminal's standard error; else nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True, no_color=not state.colour)
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total)
        yield lambda done: progress.update(task, completed=done)
