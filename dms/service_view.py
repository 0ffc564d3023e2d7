"""What systemd keeps from a service's sight, by its unit's ProtectHome= and PrivateTmp=: what a user has there is not
there for the service, and nothing else would say why."""

from __future__ import annotations

import os
import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
# Of what is mounted in a folder's place: an empty one that nobody may enter, or one of the service's own.
_IN_ITS_PLACE = re.compile(r"/systemd/inaccessible/|/systemd-private-")


def hiding_hint(path: Path) -> str:
    """To be put behind "is not there": where it would lie is hidden. Empty where it is not."""
    hidden = _hidden_folder(path)
    if not hidden:
        return ""
    return f" ({hidden} is hidden from this service by systemd: put it into another folder, such as /srv)"


def _hidden_folder(path: Path) -> str:
    """The nearest mount above it decides, the last of those in one place. Source: proc_pid_mountinfo(5): fields 4 and
    5, blanks in octal."""
    try:
        real = os.path.realpath(path)
        mounts = [line.split(" ")[3:5] for line in MOUNTS.read_text(errors="replace").splitlines()]
    except (OSError, ValueError):
        return ""
    places = ((root, re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place)) for root, place in mounts)
    above = [(place, root) for root, place in places if Path(real).is_relative_to(place)]
    place, root = max(reversed(above), key=lambda found: len(found[0]), default=("", ""))
    return place if _IN_ITS_PLACE.search(root) else ""
