"""How many files and connections this process may hold open at once, and that its memory is never written down."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)

MOST = 65_536  # far more than a node needs; some libraries walk through all that are allowed
ENOUGH = 4_096  # a connection and two files for each running job, two for each client, one for each peer


def raise_open_files(most: int = MOST) -> int:
    """The soft limit of this process, raised to the hard one, at most to `most`. A shell's usual 1,024 were chosen
    for programs that use select(). Jobs do not inherit it: each executor gives them a limit of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if 0 <= soft < ENOUGH:  # infinity is -1
        log.warning(
            "this process may open only %d files and connections: with many jobs or clients at once that is too few; "
            "raise the hard limit to %d or more (ulimit -Hn, or LimitNOFILE= of the service)",
            soft, ENOUGH, extra={"action": "few_open_files"},
        )  # fmt: skip
    return soft


def forbid_core_dumps() -> None:
    """Of this process and its children, whatever comes: keys and secrets of jobs are in memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
