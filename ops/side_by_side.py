"""Two DMSes on this machine, each with a dms_config.json of its own, onboarded and known to each other; they stay.

    python -m ops.side_by_side

Each offers 40 % of this machine, so a job that is asked for at either may run at the other, also on two slow cores.
What ends them is shown at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ops.nodes import Node, meet, onboard, run, start_node, step, wait_until_ready


def main() -> int:
    return run(start_both, keep=True)


def start_both(nodes: list[Node], folder: Path, executor: str) -> None:
    step("Starting two DMSes")
    nodes.extend(start_node(name, folder / name, executor) for name in ("dms-1", "dms-2"))
    first, second = nodes
    wait_until_ready(nodes)
    step("Onboarding both")
    for node in nodes:
        onboard(node, 40)
    step("Waiting until they have found each other (mDNS)")
    meet(first, second, nodes)
    meet(second, first, nodes)


if __name__ == "__main__":
    sys.exit(main())
