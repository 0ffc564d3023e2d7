"""`python -m ops.bench [NAME ...]`: runs the benchmarks and prints a table. Each round measures the
reference and ours one after the other, so that what else the machine does hits both. `soak`, `floods` and
`hostile` have tables of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table

from ops.bench import append, connections, dashboard, floods, hostile, matching, replay, soak, start, whole_job
from ops.bench.report import Row

BENCHES: dict[str, Callable[[], Iterator[Row]]] = {
    "append": append.run,
    "matching": matching.run,
    "replay": replay.run,
    "start": start.run,
    "job": whole_job.run,
    "dashboard": dashboard.run,
    "connections": connections.run,
}


def main(names: list[str]) -> int:
    if names[:1] == ["soak"]:
        return soak.main(names[1:])
    if names[:1] == ["floods"]:
        return floods.main(names[1:])
    if names == ["hostile"]:
        return hostile.main()
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"error: no benchmark {', '.join(unknown)}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    table = Table("benchmark", "reference", "ours", "ratio", "target")
    for name in names or BENCHES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        for row in BENCHES[name]():
            table.add_row(row.name, row.reference, row.ours, f"{row.ratio:.2f}", row.target)
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
