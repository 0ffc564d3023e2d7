"""`make power-cuts`: a recording of both roles at work, and thousands of images of it."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from tests.faults.power_cuts.check import Case, failures, failures_beside, sampled
from tests.faults.power_cuts.recording import Recording, record


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.power_cuts", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--daemons", type=int, default=200, help="on so many of them a whole daemon is started")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--workers", type=int, default=1, help="processes that check them")
    parser.add_argument("--recording", type=Path, help="file that it is kept in, and taken from if there")
    parser.add_argument("--case", help="only this one, as a failure has printed it")
    args = parser.parse_args()
    recordings = _recordings(args.recording)
    if args.case:
        cases = [msgspec.json.decode(args.case, type=Case)]
        with TemporaryDirectory(prefix="dms-image-") as folder:
            failed = _told(failures(recordings, cases, Path(folder)))
    else:
        cases = sampled(recordings, args.images, args.daemons, args.seed)
        failed = _told(failures_beside(recordings, cases, args.workers))
    steps = ", ".join(f"{len(one.steps)} steps of the {one.role}" for one in recordings)
    print(f"{len(cases)} images ({steps}), {failed} failed (seed {args.seed})")
    return 1 if failed else 0


def _told(found: Iterable[tuple[Case, str]]) -> int:
    """How many; each is printed when it is found."""
    failed = 0
    for case, why in found:
        failed += 1
        print(f"{why}\n  {msgspec.json.encode(case).decode()}", flush=True)
    return failed


def _recordings(kept: Path | None) -> list[Recording]:
    if kept is not None and kept.exists():
        return msgspec.msgpack.decode(kept.read_bytes(), type=list[Recording])
    with TemporaryDirectory(prefix="dms-recording-") as folder:
        made = list(asyncio.run(record(Path(folder))))
    if kept is not None:
        kept.write_bytes(msgspec.msgpack.encode(made))
    return made


if __name__ == "__main__":
    sys.exit(main())
