"""Power cuts: of recorded jobs, with all that was not synced lost in every way, nothing that was told is gone. `make
power-cuts` does it with 10,000 images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from tests.faults.power_cuts.check import Case, Lost, check, failures, sampled
from tests.faults.power_cuts.images import Cut, RecordedDisk, write_image
from tests.faults.power_cuts.recording import Recording, record
from tests.fixtures.disk_shim import Done, Step

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images")]

IMAGES, DAEMONS, SEED = 200, 4, 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("power")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recordings(folder: Path) -> list[Recording]:
    return list(await record(folder))


def test_whatever_is_lost_of_what_was_not_synced_nothing_that_was_told_is_gone(
    recordings: list[Recording], tmp_path: Path
) -> None:
    for recording in recordings:  # both roles did all that is looked for
        kinds = {done.kind for done in recording.steps}
        assert {Step.WRITE, Step.SYNC, Step.SYNC_FOLDER, Step.RENAME, Step.LINK, Step.TRUNCATE} <= kinds
        assert len(recording.ledger.told) > 20
        assert len(recording.ledger.ready_at) == 3
    cases = sampled(recordings, IMAGES, DAEMONS, SEED)
    assert list(failures(recordings, cases, tmp_path)) == []


def no_syncs(done: Done) -> bool:
    return done.kind is Step.SYNC and done.path == "events.db-wal"


def no_names(done: Done) -> bool:
    return done.kind is Step.SYNC_FOLDER


@pytest.mark.parametrize("left_out", [no_syncs, no_names])
def test_a_dms_that_would_not_sync_is_found_out(
    recordings: list[Recording], tmp_path: Path, left_out: Callable[[Done], bool]
) -> None:
    for recording in recordings:
        disk = RecordedDisk()
        for done in recording.steps:
            disk.take(Done(Step.RMDIR, "", "", 0, b"") if left_out(done) else done)
        image = tmp_path / recording.role
        image.mkdir()
        write_image(image, disk.image(Cut.ALL_LOST, Random(SEED)), disk.folders)
        with pytest.raises(Lost):
            check(
                image, recording.ledger, Case(role=recording.role, step=len(recording.steps), cut=Cut.ALL_LOST, seed=0)
            )


def written(path: str, data: bytes, offset: int = 0) -> Done:
    return Done(Step.WRITE, path, "", offset, data)


def of(kind: Step, path: str, other: str = "") -> Done:
    return Done(kind, path, other, 0, b"")


def test_the_model_loses_what_was_not_synced_and_keeps_what_was() -> None:
    disk, random = RecordedDisk(), Random(1)
    for done in (of(Step.CREATE, "a"), written("a", b"synced"), of(Step.SYNC, "a"), written("a", b"!", 6)):
        disk.take(done)
    assert disk.image(Cut.NOTHING_LOST, random) == {"a": b"synced!"}
    assert disk.image(Cut.ALL_LOST, random) == {}, "its folder was not synced"
    disk.take(of(Step.SYNC_FOLDER, "."))
    assert disk.image(Cut.ALL_LOST, random) == {"a": b"synced"}


def test_the_model_may_keep_a_new_name_without_its_content() -> None:
    disk = RecordedDisk()
    for done in (
        of(Step.CREATE, "old"), of(Step.SYNC_FOLDER, "."), of(Step.CREATE, "new"), written("new", b"x"),
        of(Step.RENAME, "old", "new"),
    ):  # fmt: skip
        disk.take(done)
    found = [disk.image(Cut.FILES, Random(seed)) for seed in range(50)]
    assert {"old": b""} in found
    assert {"old": b"x"} in found


def test_the_model_tears_a_write_at_a_sector() -> None:
    disk = RecordedDisk()
    for done in (of(Step.CREATE, "a"), of(Step.SYNC_FOLDER, "."), written("a", bytes([1]) * 2048)):
        disk.take(done)
    sizes = {len(disk.image(Cut.TORN, Random(seed))["a"]) for seed in range(50)}
    assert sizes == {512, 1024, 1536, 2048}
    holes = {disk.image(Cut.SCATTERED, Random(seed))["a"] for seed in range(500)}
    assert bytes(512) + bytes([1]) * 1536 in holes
