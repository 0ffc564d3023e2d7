"""Writes `docs/compatibility.md` from `ops/compatibility.toml`: `python -m ops.compatibility`. --check only says what
is wrong.

The table has a row for all that a client of the original could call, send, read or set, with what became of it and
the tests that show it. It is checked against the code from both sides: a row must name what is there, and what is
there at an address, below a command or in a section of the original must have a row (or be named in `also`).
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import msgspec

from dms import config
from dms.adapters.http import action_schemas, debug
from dms.adapters.http.answers import QuoteAnswer
from dms.adapters.http.pages import PAGES
from dms.adapters.http.routes import PREFIX
from dms.adapters.http.server import ROUTES, WEBSOCKETS
from dms.cli.core import shared_options
from dms.cli.main import cli
from dms.domain.request import ServiceRequest

ROOT = Path(__file__).parent.parent
SOURCE, PAGE = ROOT / "ops" / "compatibility.toml", ROOT / "docs" / "compatibility.md"
VERDICTS = ("kept", "improved", "left out")


@dataclass(frozen=True)
class Row:
    """name: of the endpoint, flag, key, ... verdict: one of VERDICTS. tests: names, or path::name below tests/.
    inputs: of an endpoint, query parameters and fields of the body that the original had."""

    name: str
    verdict: str
    note: str
    tests: tuple[str, ...]
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """kind: what its rows are checked against, one of KINDS; empty: behaviour, which only the tests show. also: what
    the code has in the same places beyond the original."""

    title: str
    kind: str
    intro: str
    rows: tuple[Row, ...]
    also: frozenset[str]


@cache
def sections() -> tuple[Section, ...]:
    found = tomllib.loads(SOURCE.read_text(encoding="utf-8"))
    return tuple(_section(title, body) for title, body in found.items())


def _section(title: str, body: dict[str, Any]) -> Section:
    rows = tuple(
        Row(name, row["is"], row["note"], tuple(row["tests"]), tuple(row.get("inputs", ())))
        for name, row in body["rows"].items()
    )
    return Section(title, body.get("kind", ""), body.get("intro", ""), rows, frozenset(body.get("also", ())))


# --- what the code has ---------------------------------------------------------------------------------


def _endpoints() -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for route in (*ROUTES, *debug.ROUTES, *PAGES):
        fields = {field.encode_name for field in msgspec.structs.fields(route.body)} if route.body else set[str]()
        inputs = fields | {parameter.name for parameter in route.query}
        found[f"{route.method} {route.address.removeprefix(PREFIX)}"] = frozenset(map(str.casefold, inputs))
    for socket in WEBSOCKETS:
        inputs = {parameter.name for parameter in socket.query}
        found[f"WS {socket.address.removeprefix(PREFIX)}"] = frozenset(map(str.casefold, inputs))
    return found


def _actions() -> dict[str, frozenset[str]]:
    heard = [f"to the DMS: {name}" for name in action_schemas.INCOMING]
    return dict.fromkeys([*heard, *(f"to the client: {name}" for name in action_schemas.OUTGOING)], frozenset[str]())


def _commands() -> dict[str, frozenset[str]]:
    """Commands, and their flags as `nunet onboard -m/--memory`."""
    shared = {option for parameter in shared_options() for option in parameter.opts}

    def walk(found: click.Command, path: str) -> Iterator[str]:
        yield path
        for parameter in found.params:
            if isinstance(parameter, click.Option) and not set(parameter.opts) <= shared:
                yield f"{path} {'/'.join((*parameter.opts, *parameter.secondary_opts))}"
        if isinstance(found, click.Group):
            for name, command in found.commands.items():
                yield from walk(command, f"{path} {name}")

    return dict.fromkeys(walk(cli, "nunet"), frozenset[str]())


def _settings() -> dict[str, frozenset[str]]:
    return dict.fromkeys([*config.KEYS, *config.OLD_NAMES], frozenset[str]())


def _request() -> dict[str, frozenset[str]]:
    """The fields of the body, inner ones as `params.image_id`."""
    definitions = msgspec.json.schema(ServiceRequest)["$defs"]

    def walk(kind: str, path: str) -> Iterator[str]:
        for name, schema in definitions[kind]["properties"].items():
            yield path + name
            for choice in (schema, *schema.get("anyOf", ())):
                if "$ref" in choice:
                    yield from walk(choice["$ref"].rpartition("/")[2], f"{path}{name}.")

    return dict.fromkeys(walk("ServiceRequest", ""), frozenset[str]())


def _reply() -> dict[str, frozenset[str]]:
    return dict.fromkeys((field.encode_name for field in msgspec.structs.fields(QuoteAnswer)), frozenset[str]())


KINDS: Mapping[str, Callable[[], dict[str, frozenset[str]]]] = {
    "endpoint": cache(_endpoints), "action": cache(_actions), "command": cache(_commands), "setting": cache(_settings),
    "request": cache(_request), "reply": cache(_reply),
}  # fmt: skip


def _place(kind: str, name: str) -> str:
    """What is the original's as a whole: a path, a command (of its flags) or the group above, a section."""
    if kind == "endpoint":
        return name.partition(" ")[2]
    if kind == "command":
        command, flag, _ = name.partition(" -")
        return command if flag else command.rpartition(" ")[0]
    return name.partition(".")[0] if kind == "setting" else ""


# --- the tests -----------------------------------------------------------------------------------------


@cache
def _tests() -> dict[str, list[str]]:
    """Name of a test -> the files below tests/ that have one."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.setdefault(node.name, []).append(path.relative_to(ROOT / "tests").as_posix())
    return found


def located(test: str) -> str:
    """path::name below tests/, of a test given so or by its name alone. Raises LookupError."""
    path, _, name = test.rpartition("::")
    files = [file for file in _tests().get(name, []) if path in ("", file)]
    if len(files) != 1:
        raise LookupError(f"there is no test {test}" if not files else f"{test} is in {' and '.join(files)}: name one")
    return f"{files[0]}::{name}"


# --- what is wrong, and the page -----------------------------------------------------------------------


def problems(all_sections: Sequence[Section]) -> list[str]:
    found = [problem for section in all_sections for row in section.rows for problem in _problems_of(section, row)]
    for kind in KINDS:
        found += _without_row(kind, [section for section in all_sections if section.kind == kind])
    return found


def _problems_of(section: Section, row: Row) -> Iterator[str]:
    what = f"{section.title}: {row.name}"
    if row.verdict not in VERDICTS:
        yield f"{what}: is {row.verdict!r}; one of {', '.join(VERDICTS)}"
    if not row.note and row.verdict != "kept":
        yield f"{what}: a note must say {'how' if row.verdict == 'improved' else 'why'}"
    if not row.tests:
        yield f"{what}: no test shows it"
    for test in row.tests:
        try:
            located(test)
        except LookupError as error:
            yield f"{what}: {error}"
    if section.kind and row.verdict != "left out":
        present = KINDS[section.kind]()
        if row.name not in present:
            yield f"{what}: the code has no such {section.kind}"
        elif unknown := {text.casefold() for text in row.inputs} - present[row.name]:
            yield f"{what}: it takes no {', '.join(sorted(unknown))}"


def _without_row(kind: str, parts: Sequence[Section]) -> Iterator[str]:
    rows = {row.name for section in parts for row in section.rows}
    also = frozenset[str]().union(*(section.also for section in parts))
    places = {_place(kind, name) for name in rows} | (rows if kind == "command" else set())
    present = KINDS[kind]()
    for name in present:
        if _place(kind, name) in places and name not in rows | also and not _is_group_of(kind, name, rows):
            yield f"{kind} {name} has no row: add one, or name it in `also` where the original had nothing of the kind"
    for name in sorted(also - present.keys()):
        yield f"also: the code has no {kind} {name}"


def _is_group_of(kind: str, name: str, rows: set[str]) -> bool:
    return kind == "command" and any(row.startswith(f"{name} ") for row in rows)


def page(all_sections: Sequence[Section]) -> str:
    counts = Counter(row.verdict for section in all_sections for row in section.rows)
    head = INTRO.format(**{verdict.replace(" ", "_"): counts[verdict] for verdict in VERDICTS})
    return head + "".join(_section_text(section) for section in all_sections)


def _section_text(section: Section) -> str:
    lines = [f"\n## {section.title}\n"]
    if section.intro:
        lines.append(section.intro + "\n")
    lines += ["| of the original | here | how, why | shown by |", "|---|---|---|---|"]
    for row in section.rows:
        name = f"`{row.name}`" if section.kind else row.name
        inputs = f" with {', '.join(f'`{text}`' for text in row.inputs)}" if row.inputs else ""
        tests = "<br>".join(f"`{located(test)}`" for test in row.tests)
        lines.append("| " + " | ".join(_cell(t) for t in (name + inputs, row.verdict, row.note, tests)) + " |")
    if section.also:
        lines.append(f"\nBeyond the original: {', '.join(f'`{name}`' for name in sorted(section.also))}.")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


INTRO = """# Compatibility with the original DMS

Clients, scripts and settings of the original (0.4.x, all three generations) work unchanged, save for what is left out.
This is what became of each part of it: {kept} parts are kept as they were, {improved} are improved without breaking a
client, {left_out} are left out. The last column names the tests that show it, below `tests/`. Paths are below `/api/v1`
unless it is said.

Made by `python -m ops.compatibility` from `ops/compatibility.toml`, which is checked against the code: the page can't
name what is not there, and nothing at an address, below a command or in a section of the original is without a row.
"""


def main(arguments: list[str]) -> int:
    wrong = problems(sections())
    for problem in wrong:
        print(problem)
    if wrong:
        return 1
    text = page(sections())
    if "--check" in arguments:
        stale = not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text
        if stale:
            print("docs/compatibility.md differs; run: python -m ops.compatibility")
        return int(stale)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
