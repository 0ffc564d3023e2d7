"""What is asked of a view's rows, as SQL: the same over the table of now and over the rows of a past moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from dms.errors import InvalidInput
from projections.base import KEY, Begins, Between, Condition, Contains, Projection, Where

_LAST = "\U0010ffff"  # behind every text that begins alike
_BETWEEN = "~"  # a column's value and the key, in what a sorted page goes on after


class Source(NamedTuple):
    """A table with rows; which of them: a condition in SQL, with its arguments."""

    table: str
    only: str = ""
    arguments: tuple[object, ...] = ()


Sources = Sequence[Source]
"""Tables that hold a view's rows together, each row in one of them."""


_ALL: Where = MappingProxyType({})


class Asked(NamedTuple):
    """A page; see Views.page."""

    limit: int
    after: str = ""
    where: Where = _ALL
    newest_first: bool = False
    order_by: str = ""
    offset: int = 0
    counted: bool = False


class Query(NamedTuple):
    sql: str
    arguments: list[object]


def page(projection: Projection[Any], sources: Sources, asked: Asked) -> Query:
    """Gives (key, what it is sorted by), one row more than a page has. Raises InvalidInput."""
    clauses, arguments = _filters(projection, asked.where)
    column = _checked(projection, asked.order_by) if asked.order_by else KEY
    compare, direction = ("<", "DESC") if asked.newest_first else (">", "ASC")
    if asked.after:
        begins, values = _behind(projection, asked, compare)
        clauses, arguments = [*clauses, begins], [*arguments, *values]
    order = ", ".join(f"{name} {direction}" for name in dict.fromkeys((column, KEY)))
    sql, given = _of_all(f"{KEY}, {column}", sources, clauses, arguments)
    return Query(f"{sql} ORDER BY {order} LIMIT ? OFFSET ?", [*given, asked.limit + 1, asked.offset])


def count(projection: Projection[Any], sources: Sources, where: Where) -> Query:
    """Gives how many rows fit, of each source. Raises InvalidInput."""
    return Query(*_of_all("count(*)", sources, *_filters(projection, where)))


def totals(
    projection: Projection[Any], sources: Sources, columns: Sequence[str], where: Where, sums: Sequence[str]
) -> Query:
    """Gives the columns' values, how many rows have them, and the sums, of each source. Raises InvalidInput."""
    names = [_checked(projection, column) for column in columns]
    wanted = [*names, "count(*)", *(f"sum({_checked(projection, column)})" for column in sums)]
    groups = f" GROUP BY {', '.join(names)}" if names else ""
    return Query(*_of_all(", ".join(wanted), sources, *_filters(projection, where), groups))


def token(asked: Asked, key: str, value: object) -> str:
    """What the next page goes on after."""
    return f"{value}{_BETWEEN}{key}" if asked.order_by else key


# --- the parts -------------------------------------------------------------------------------------
def _filters(projection: Projection[Any], where: Where) -> tuple[list[str], list[object]]:
    clauses: list[str] = []
    arguments: list[object] = []
    for column, condition in where.items():
        for clause, values in _clauses(_checked(projection, column), condition):
            clauses.append(clause)
            arguments += values
    return clauses, arguments


def _clauses(column: str, condition: Condition) -> Iterator[tuple[str, Sequence[object]]]:
    match condition:
        case str():
            yield f"{column} = ?", (condition,)
        case Between(least=least, below=below):
            if least is not None:
                yield f"{column} >= ?", (least,)
            if below is not None:
                yield f"{column} < ?", (below,)
        case Begins(text=text):
            yield f"{column} >= ? AND {column} < ?", (text, text + _LAST)
        case Contains(text=text):
            yield f"instr({column}, ?) > 0", (text,)
        case _:
            yield f"{column} IN ({','.join('?' * len(condition))})", list(condition)


def _checked(projection: Projection[Any], column: str) -> str:
    """Raises InvalidInput: a name that goes into SQL is one of those that we made."""
    if column != KEY and column not in projection.columns:
        raise InvalidInput(f"{projection.name} can't be filtered or sorted by {column}")
    return column


def _behind(projection: Projection[Any], asked: Asked, compare: str) -> tuple[str, Sequence[object]]:
    if not asked.order_by:
        return f"{KEY} {compare} ?", (asked.after,)
    text, between, key = asked.after.rpartition(_BETWEEN)
    value: object = text
    if projection.columns[asked.order_by] == "INTEGER":
        value = int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
    if not between or value is None:
        what = "expected the next_token of a page that was sorted like this one"
        raise InvalidInput(f"after is '{asked.after[:64]}'; {what}", [("?after", what)])
    return f"({asked.order_by}, {KEY}) {compare} (?, ?)", (value, key)


def _of_all(
    columns: str, sources: Sources, clauses: Sequence[str], arguments: Sequence[object], behind: str = ""
) -> tuple[str, list[object]]:
    """The same of each source, and the arguments of all."""
    selects: list[str] = []
    given: list[object] = []
    for source in sources:
        all_of = [*((source.only,) if source.only else ()), *clauses]
        where = f" WHERE {' AND '.join(all_of)}" if all_of else ""
        selects.append(f"SELECT {columns} FROM {source.table}{where}{behind}")
        given += [*source.arguments, *arguments]
    return " UNION ALL ".join(selects), given


def as_totals(found: Sequence[Sequence[Any]], columns: int) -> Mapping[tuple[Any, ...], tuple[int, ...]]:
    """What `totals` gave, by the values of so many columns, over all sources."""
    added: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for row in found:
        values, sums = tuple(row[:columns]), [number or 0 for number in row[columns:]]
        before = added.get(values, (0,) * len(sums))
        added[values] = tuple(map(sum, zip(before, sums, strict=True)))
    return added
