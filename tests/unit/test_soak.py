"""What the soak says of its samples."""

from __future__ import annotations

import pytest

from ops.bench.soak import Sample, verdicts


def run_of(rss_per_job: float, descriptors_per_job: float) -> list[Sample]:
    """10 jobs a sample; the first 400 jobs grow in any case."""
    samples = []
    for number in range(100):
        warm, late = min(number * 10, 400), max(0, number * 10 - 400)
        rss, descriptors = 100 + warm * 0.1 + late * rss_per_job, 60 + warm * 0.1 + late * descriptors_per_job
        samples.append(Sample(float(number), number * 10, rss, int(descriptors), 20, 40))
    return samples


@pytest.mark.parametrize(
    ("rss_per_job", "descriptors_per_job", "growing"),
    [(0.0, 0.0, set()), (0.001, 0.0, set()), (0.05, 0.0, {"rss_mb"}), (0.0, 0.5, {"descriptors"})],
)
def test_what_grows_after_the_warm_up_is_told(
    rss_per_job: float, descriptors_per_job: float, growing: set[str]
) -> None:
    found = verdicts(run_of(rss_per_job, descriptors_per_job))
    assert {one.name for one in found if not one.fine} == growing
    slopes = {one.name: one.slope for one in found}
    assert slopes["rss_mb"] == pytest.approx(1000 * rss_per_job, abs=0.01)
