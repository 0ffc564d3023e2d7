"""Which users of this machine are its DMS's operators: root, the DMS's own user and the group nunet."""

from __future__ import annotations

import grp
import os
import pwd
import time
from functools import partial

from dms.outside_calls import OutsideCalls

GROUP = "nunet"
DIRECTORY_SECONDS, DIRECTORY_AT_ONCE = 10.0, 4
KEPT_SECONDS = 60.0  # what a user's groups were
MOST_KEPT = 10_000


class Operators:
    def __init__(self) -> None:
        self._known: dict[int, tuple[float, bool]] = {}
        self._directory = OutsideCalls("The directory of users", DIRECTORY_SECONDS, DIRECTORY_AT_ONCE)

    def is_known(self, uid: int) -> bool:
        """By what was found when it was asked for last."""
        return uid in (0, os.geteuid()) or self._known.get(uid, (0.0, False))[1]

    async def has(self, uid: int) -> bool:
        """Raises Unavailable while nobody can tell."""
        if uid in (0, os.geteuid()):
            return True
        since, found = self._known.get(uid, (float("-inf"), False))
        if time.monotonic() - since < KEPT_SECONDS:
            return found
        found = await self._directory.call(partial(_is_of_group, uid))
        if len(self._known) >= MOST_KEPT:
            self._known.clear()
        self._known[uid] = (time.monotonic(), found)
        return found


def _is_of_group(uid: int) -> bool:
    """Blocking: a directory service may be asked."""
    try:
        user, group = pwd.getpwuid(uid), grp.getgrnam(GROUP)
    except KeyError:
        return False
    return group.gr_gid in os.getgrouplist(user.pw_name, user.pw_gid)
