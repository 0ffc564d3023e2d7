"""The manual pages, made from the command tree, the settings and `docs/`, so that they can't tell otherwise.

    python -m ops.manual FOLDER     writes FOLDER/nunet.1 and FOLDER/nunet-dms.conf.5

Written in man(7). The date is that of SOURCE_DATE_EPOCH where it is set (a package is then built alike each time).
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from dms.cli.core import Command, shared_options
from dms.cli.main import cli
from dms.config import json_schema

ROOT = Path(__file__).parent.parent
SETTINGS = ROOT / "docs" / "settings.md"
FILES = (
    ("./dms_config.json, ~/.nunet/dms_config.json, /etc/nunet/dms_config.json",
     "The settings: the first of these that is there. See nunet-dms.conf(5)."),
    ("<work folder>/node.key", "The node's identity. Who has it, is the node: keep it secret, and keep a copy."),
    ("<data folder>/events.db", "The event log: all that ever happened. The views are made from it."),
    ("<data folder>/archive/", "Its oldest part, in compressed files. Keep it with events.db."),
    ("<data folder>/heads.json", "What peers have signed of the log, and this DMS of theirs; see nunet audit heads."),
    ("<data folder>/logs/", "The output of jobs."),
    ("<data folder>/dms.log", "What the daemon has to say, where no journal keeps it."),
    ("/tmp/nunet-log/nunet-log.tar.gz", "What nunet log has collected."),
)  # fmt: skip
VARIABLES = (
    ("DMS_URL", "The daemon to talk to, in place of --url."),
    ("DMS_<SECTION>_<KEY>", "A setting: DMS_REST_PORT is rest.port. It wins over the file; a flag wins over it."),
    ("NO_COLOR", "Set to anything: no colours."),
    ("NUNET_DEBUG", "Set to anything: an unexpected error shows where it happened."),
)


def write(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"nunet.1": nunet_page(), "nunet-dms.conf.5": settings_page()}
    for name, text in pages.items():
        (folder / name).write_text(text)
    return [folder / name for name in pages]


# --- nunet(1) ----------------------------------------------------------------------------------------


def nunet_page() -> str:
    about, _, rest = (cli.help or "").partition("\n\n")
    data = rest.partition("\n\n")[0]
    lines = [
        heading("NUNET", 1),
        ".SH NAME",
        f"nunet \\- {escape(_first_sentence(about))}",
        ".SH SYNOPSIS",
        ".B nunet",
        "[\\fIoptions\\fR] \\fIcommand\\fR [\\fIsubcommand\\fR] [\\fIarguments\\fR]",
        ".SH DESCRIPTION",
        *paragraphs(f"{about}\n\n{data}"),
        ".SH OPTIONS",
        "These may stand before or behind the command.",
        *options(shared_options()),
        ".TP",
        "\\fB\\-h\\fR, \\fB\\-\\-help\\fR",
        "Show help and an example; each command has its own.",
        ".TP",
        "\\fB\\-\\-version\\fR",
        "Show the version.",
        ".SH COMMANDS",
    ]
    for path, found in commands(cli, ("nunet",)):
        lines += _command(path, found)
    lines += [".SH EXIT STATUS", *_exit_codes(), ".SH ENVIRONMENT", *terms(VARIABLES), ".SH FILES", *terms(FILES)]
    lines += [".SH SEE ALSO", ".BR nunet\\-dms.conf (5),", ".BR docker (1),", ".BR systemctl (1)"]
    return "\n".join(lines) + "\n"


def commands(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """What can be called, in the order of the help; hidden ones are left out."""
    for name, found in sorted(group.commands.items()):
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))
        elif not found.hidden:
            yield (*path, name), found


def _command(path: tuple[str, ...], found: click.Command) -> list[str]:
    context = click.Context(found, info_name=path[-1])
    shared = {option.name for option in shared_options()}
    own = [p for p in found.params if isinstance(p, click.Option) and p.name not in shared and not p.hidden]
    pieces = [p for p in found.collect_usage_pieces(context) if p != "[OPTIONS]"]
    example = (found.epilog or "").partition("Example:\n")[2]
    return [
        ".SS " + escape(" ".join([*path, *pieces])).replace("\n", " "),
        *paragraphs(found.help or ""),
        *options(own),
        ".PP",
        "Example:",
        *literal(line.strip() for line in example.splitlines()),
    ]


def options(given: Iterable[click.Option]) -> list[str]:
    lines: list[str] = []
    for option in given:
        record = option.get_help_record(click.Context(Command("x", example="")))
        if record is not None:
            names, text = record
            lines += [".TP", re.sub(r"(?<![\w-])(--?[\w-]+)", r"\\fB\1\\fR", names).replace("-", "\\-"), escape(text)]
    return lines


def _exit_codes() -> list[str]:
    """The table of docs/command-line.md."""
    page = (ROOT / "docs" / "command-line.md").read_text()
    table = page.partition("## Exit codes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (.+?) \|$", table, re.MULTILINE)
    return [*terms(rows), ".PP", "\\fBnunet job run \\-\\-wait\\fR answers with the container's own code."]


# --- nunet-dms.conf(5) ---------------------------------------------------------------------------------


def settings_page() -> str:
    described = described_settings()
    lines = [
        heading("NUNET-DMS.CONF", 5),
        ".SH NAME",
        "nunet\\-dms.conf \\- settings of the Device Management Service, dms_config.json",
        ".SH SYNOPSIS",
        ".B /etc/nunet/dms_config.json",
        ".SH DESCRIPTION",
        *paragraphs(_configuration_text()),
        ".SH SETTINGS",
    ]
    for key, text in described.items():
        lines += [".TP", _bold(key), escape(text)]
    lines += [".SH EXAMPLE", *literal(_EXAMPLE.splitlines())[1:]]
    return "\n".join([*lines, ".SH SEE ALSO", ".BR nunet (1)"]) + "\n"


_EXAMPLE = """\
{
  // a port of its own, and peers to meet
  "rest": {"port": 9998},
  "p2p": {"bootstrap_peers": ["/ip4/192.0.2.1/tcp/9000/p2p/12D3KooW..."]},
  "job": {"funding_window": "5m"}
}"""


def described_settings() -> dict[str, str]:
    """Dotted key -> default and meaning, as the table of docs/settings.md has them."""
    table = SETTINGS.read_text().partition("## All of them")[2].partition("\n## ")[0]
    found: dict[str, str] = {}
    for keys, default, text in re.findall(r"^\| (`.+?) \| ?(.*?) ?\| ?(.*?) ?\|$", table, re.MULTILINE):
        shown = f"{_plain(text).strip()} [default: {_plain(default)}]" if default else _plain(text)
        for key in re.findall(r"`([a-z0-9_]+\.[a-z0-9_*]+)`", keys):
            found[key] = shown.strip()
    return found


def all_settings() -> set[str]:
    schema = json_schema()

    def properties(node: dict[str, Any]) -> dict[str, Any]:
        target = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
        found: dict[str, Any] = target["properties"]
        return found

    return {f"{section}.{key}" for section, node in properties(schema).items() for key in properties(node)}


def _configuration_text() -> str:
    part = SETTINGS.read_text().partition("# Settings\n")[2].partition("\n## ")[0]
    return _plain(part.strip())


def _plain(markdown: str) -> str:
    return markdown.replace("`", "")


# --- man(7) ------------------------------------------------------------------------------------------


def heading(name: str, section: int) -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())))
    return f'.TH {name} {section} {day} "nunet\\-dms {version("nunet-dms")}" "Device Management Service"'


def escape(text: str) -> str:
    """As plain text, in lines of a length that every reader takes."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(_as_it_is(line) for line in textwrap.wrap(plain, 78, break_on_hyphens=False)) or "\\&"


def paragraphs(help_text: str) -> list[str]:
    """click's help: paragraphs; one behind `\\b` keeps its lines."""
    lines: list[str] = []
    for part in re.split(r"\n\s*\n", help_text.strip()):
        if part.lstrip(" ").startswith("\b"):
            lines += literal(line.strip() for line in part.splitlines()[1:])
        else:
            lines += [".PP", escape(part)]
    return lines[1:] if lines[:1] == [".PP"] else lines


def literal(lines: Iterable[str]) -> list[str]:
    escaped = (line.replace("\\", "\\e").replace("-", "\\-") for line in lines)
    return [".PP", ".RS 4", ".nf", *map(_as_it_is, escaped), ".fi", ".RE"]


def _as_it_is(line: str) -> str:
    """No line of text may look like a macro."""
    return "\\&" + line if line.startswith((".", "'")) else line


def terms(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [line for term, text in pairs for line in (".TP", _bold(term), escape(text))]


def _bold(term: str) -> str:
    return "\\fB" + escape(term).replace("\n", " ") + "\\fR"


def _first_sentence(text: str) -> str:
    return re.split(r"[:.]\s", text.strip())[0].replace("Run and use", "run and use")


if __name__ == "__main__":
    for page in write(Path(sys.argv[1] if len(sys.argv) > 1 else "man")):
        print(page)
