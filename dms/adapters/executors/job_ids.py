"""What may be a job's id: it names folders and containers."""

from __future__ import annotations

import re

from dms.errors import InvalidInput

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")


def is_job_id(text: str) -> bool:
    return _JOB_ID.fullmatch(text) is not None


def check_job_id(job_id: str) -> None:
    """Raises InvalidInput."""
    if not is_job_id(job_id):
        raise InvalidInput(f"{job_id[:80]!r} is not a job id: letters, digits, '_', '.', '-', at most 120")
