"""What surrounds the daemon: `nunet version`, `autocomplete`, `log`, `shell`."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import stat
import subprocess
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.failure import Failure, say
from dms.disk import make_folder, whole_file
from dms.errors import Exit

UNIT = "nunet-dms.service"
ARCHIVE = Path("/tmp/nunet-log/nunet-log.tar.gz")  # noqa: S108  # the original's place; see _private_folder
JOURNAL_LINES = 200_000
JOURNAL_SECONDS = 120
LOG_FILES = "dms.log*"  # of the daemon, in its data folder: the newest and the ones rotated out
LARGEST_FILE = 64 * 1024 * 1024
_SECRETS = (
    (re.compile(rb"(?<=://)([^/@\s:\"']*):[^/@\s\"']+@"), rb"\1:***@"),
    (re.compile(rb"(?i)(token|password|passwd|secret|mnemonic|private_key|authorization)(\\?[\"']?\s*[=:]\s*\\?[\"']?)"
                rb"[^\s\"'&,}\\]+"), rb"\1\2***"),
)  # fmt: skip


def add_to(cli: Group) -> None:
    _add_version(cli)
    _add_completion(cli)
    _add_log(cli)
    _add_shell(cli)


def _add_version(cli: Group) -> None:
    @command(cli, "version", "nunet version -o json")
    @pass_state
    def version(state: State) -> None:
        """Show the versions of this program, of Python and of the platform."""
        state.output.record(versions())


def versions() -> dict[str, str]:
    from importlib import metadata

    return {
        "name": "nunet-dms",
        "version": metadata.version("nunet-dms"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
    }


def _add_completion(cli: Group) -> None:
    @command(cli, "autocomplete", "nunet autocomplete bash")
    @click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
    def autocomplete(shell: str) -> None:
        """Print a shell completion script for nunet.

        \b
        bash: nunet autocomplete bash > ~/.local/share/bash-completion/completions/nunet
        zsh:  nunet autocomplete zsh > "${fpath[1]}/_nunet"
        fish: nunet autocomplete fish > ~/.config/fish/completions/nunet.fish
        """
        click.echo(completion(cli, shell))


def completion(cli: click.Command, shell: str) -> str:
    """The script; it asks `nunet` itself for the words, so it needs no renewal."""
    from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

    kinds: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
    made = kinds[shell](cli, {}, "nunet", "_NUNET_COMPLETE")
    # click's own way of asking for it starts a bash to look at its version.
    return made.source_template % made.source_vars()


def _add_log(cli: Group) -> None:
    @command(cli, "log", "nunet log")
    @click.option(
        "--to", "archive", type=click.Path(path_type=Path, dir_okay=False), default=ARCHIVE, show_default=True,
        help="Archive file to write.",
    )  # fmt: skip
    @pass_state
    def log(state: State, archive: Path) -> None:
        """Collect the daemon's log for a bug report, and print where it is.

        The log comes from the service's journal, or else from the daemon's log file. The version and the settings in
        force are added; passwords, keys and tokens are left out.
        """
        say("Collecting logs...")
        parts = _logs(state)
        if not parts:
            raise Failure(
                "no log was found", Exit.NOT_FOUND,
                f"the journal of {UNIT} can be read by root and the group systemd-journal; without systemd the log is "
                f"{state.load().settings.general.data_dir}/dms.log",
            )  # fmt: skip
        parts["version.json"] = json.dumps(versions(), indent=2).encode()
        parts["settings.json"] = json.dumps(_settings(state), indent=2).encode()
        _write(archive, {name: without_secrets(data) for name, data in parts.items()})
        if state.output.for_people:
            click.echo(archive)
        else:
            state.output.record({"archive": str(archive), "files": sorted(parts)})


def _logs(state: State) -> dict[str, bytes]:
    """Name in the archive -> content."""
    found: dict[str, bytes] = {}
    journal = _journal()
    if journal:
        found["journal.log"] = journal
    for path in sorted(filter(Path.is_file, state.load().settings.general.data_dir.glob(LOG_FILES))):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LARGEST_FILE))
            found[path.name] = file.read(LARGEST_FILE)
    return found


def _journal() -> bytes:
    """Empty where there is no systemd, no such unit, or no right to read it."""
    words = ["journalctl", "--unit", UNIT, "--no-pager", "--quiet", "--output", "short-iso-precise"]
    try:
        done = subprocess.run(
            [*words, "--lines", str(JOURNAL_LINES)], capture_output=True, timeout=JOURNAL_SECONDS, check=False
        )
    except FileNotFoundError:
        return b""
    except subprocess.TimeoutExpired as error:
        raise Failure(f"journalctl did not answer within {JOURNAL_SECONDS} s", Exit.TIMED_OUT) from error
    return done.stdout[-LARGEST_FILE:] if done.returncode == 0 else b""


def _settings(state: State) -> list[dict[str, Any]]:
    from dms.cli.settings import rows

    return rows(state)


def without_secrets(text: bytes) -> bytes:
    """The log should have none: this is the second fence before it leaves the machine."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _write(archive: Path, parts: Mapping[str, bytes]) -> None:
    """Whole or not at all, readable by its owner only."""
    _private_folder(archive.parent)
    with whole_file(archive) as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, data in parts.items():
            entry = tarfile.TarInfo(f"nunet-log/{name}")
            entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
            tar.addfile(entry, io.BytesIO(data))


def _private_folder(folder: Path) -> None:
    """In /tmp anybody may have made it first, to have us write elsewhere. Raises Failure then."""
    make_folder(folder)
    found = folder.lstat()
    theirs = found.st_uid not in (os.geteuid(), 0)
    if stat.S_ISLNK(found.st_mode) or theirs:
        raise Failure(f"{folder} belongs to somebody else", Exit.DENIED, "name another place with --to")


def _add_shell(cli: Group) -> None:
    @command(cli, "shell", "nunet shell --node-id <peer-id>")
    @click.option("--node-id", metavar="PEER", help="Machine to open a shell on.")
    def shell(node_id: str | None) -> None:
        """Not supported: nobody gets a shell on a provider's machine."""
        del node_id
        raise Failure(
            "a shell on another's machine is left out on purpose: a provider runs jobs in containers, nothing else",
            Exit.FAILURE,
            "have a job run your commands: nunet job run --help",
        )

    shell.hidden = True
