"""Every stored output that was sealed, against its digest in the event log: for a DMS that runs or not. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from dms.adapters.outputs.sealed import file_state
from dms.application.ports.outputs import SealedLog
from dms.errors import LogUnavailable


class OutputsChecked(Struct, frozen=True, kw_only=True):
    """checked: files that are what was sealed. not_here: sealed outputs without a file: moved, or lost. erased: removed
    by an erasure. cut_short: kept up to this node's own limit only, so the provider's digest tells nothing of them."""

    checked: int = 0
    not_here: int = 0
    erased: int = 0
    cut_short: int = 0
    faults: tuple[str, ...] = ()

    @property
    def seen(self) -> int:
        return self.checked + self.not_here + self.erased + self.cut_short + len(self.faults)


def check_outputs(folder: Path, sealed: Mapping[str, SealedLog], erased: Collection[str]) -> Iterator[OutputsChecked]:
    """sealed: by job id. Yields after each output what was found up to then."""
    found = {"checked": 0, "not_here": 0, "erased": 0, "cut_short": 0}
    faults: list[str] = []
    for job_id, seal in sealed.items():
        path = folder / f"{job_id}.ndjson"
        try:
            there = path.exists()
            state = file_state(path, seal)
        except OSError as error:
            raise LogUnavailable(f"{path} can't be read: {error.strerror}") from error
        if not there and seal.lines:
            found["erased" if job_id in erased else "not_here"] += 1
        elif state.damage:
            faults.append(f"output of job {job_id} in {path}: {state.damage}")
        else:
            found["cut_short" if state.uncheckable else "checked"] += 1
        yield OutputsChecked(**found, faults=tuple(faults))
