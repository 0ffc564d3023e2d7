"""What is to be decided on events that can't be read now: the archive's files may lie elsewhere for a while."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from dms.errors import ArchiveUnreadable

log = logging.getLogger(__name__)


@contextmanager
def stays_if_unread(what: str) -> Iterator[None]:
    """For a look at many: one whose events can't be read now is left for a later look, and keeps no other."""
    try:
        yield
    except ArchiveUnreadable as error:
        log.info("%s is left as it is for now: %s", what, error, extra={"action": "archive_away"})
