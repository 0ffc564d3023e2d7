"""Data on standard output: as a table for people, as JSON, JSON lines or YAML for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from dms.cli.text import json_text, printable

Column = tuple[str, str | Callable[[Mapping[str, Any]], object]]
"""(heading, the key of the value or how to make it from the row)"""


class Output:
    def __init__(self, kind: str, *, colour: bool) -> None:
        self.kind, self._colour = kind, colour

    @property
    def for_people(self) -> bool:
        return self.kind == "table"

    def rows(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], empty: str = "none") -> None:
        """columns: what the table shows; the other forms carry whole rows."""
        if not self.for_people:
            self._document(list(rows))
        elif not rows:
            click.echo(empty, err=True)
        else:
            self._table([name for name, _ in columns], [[_cell(row, how) for _, how in columns] for row in rows])

    def record(self, record: Mapping[str, Any], columns: Sequence[Column] = ()) -> None:
        """One thing: a line for each value. columns: which; all that are there unless given."""
        if not self.for_people:
            self._document(record)
            return
        shown = columns or [(key, key) for key in record]
        pairs = [(name, _cell(record, how)) for name, how in shown]
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            if value:
                click.echo(f"{name:<{width}}  {value}")

    def outline(self, data: Mapping[str, Any]) -> None:
        """Nested data for people: indented, as the original shows it."""
        click.echo(printable(_yaml(data)), nl=False)

    def line(self, item: Mapping[str, Any]) -> None:
        """One item of a stream, as one line of JSON, or as a document of YAML."""
        if self.kind == "yaml":
            click.echo("---\n" + _yaml(item), nl=False)
        else:
            click.echo(json_text(item))
        sys.stdout.flush()

    def _document(self, data: Any) -> None:
        if self.kind == "yaml":
            click.echo(_yaml(data), nl=False)
        elif self.kind == "json":
            click.echo(json_text(data, indent=2))
        elif isinstance(data, list):
            for item in data:
                self.line(item)
        else:
            self.line(data)

    def _table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        # Nothing is folded or cut, however narrow the terminal: ids are copied from here, and programs read it.
        styled = self._colour and sys.stdout.isatty()
        console = Console(file=sys.stdout, color_system="auto" if styled else None, width=10_000)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for heading in headings:
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        with console.capture() as captured:
            console.print(table)
        click.echo("\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n")))


def _yaml(data: Any) -> str:
    """That does not drive a terminal either."""
    import yaml

    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return text if printable(text) == text else yaml.safe_dump(data, sort_keys=False, allow_unicode=False)


def _cell(row: Mapping[str, Any], how: str | Callable[[Mapping[str, Any]], object]) -> str:
    value = row.get(how) if isinstance(how, str) else how(row)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list):
        return json_text(value) if value else ""
    return printable(str(value))
