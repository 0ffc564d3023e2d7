"""What a stranger may take of a machine."""

from __future__ import annotations

import msgspec
import pytest

from dms.config import Strangers
from dms.domain.resources import Resources
from dms.domain.stranger_limits import NO_LIMITS, StrangerLimits
from tests.fixtures.histories import request

LIMITS = StrangerLimits(max_minutes=60, max_cpu_mhz=2000, max_memory_mb=1000, max_jobs=2, max_share_percent=50)
MACHINE = Resources(cpu_mhz=8000, memory_mb=4000)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"time": 5_256_000}, "/constraints/time"),
        ({"cpu": 2001}, "/constraints/cpu"),
        ({"ram": 1001}, "/constraints/ram"),
        ({"time": 60, "cpu": 2000, "ram": 1000}, ""),
    ],
)
def test_a_job_over_a_limit_is_refused_with_the_limit_and_the_field(asked: dict[str, int], field: str) -> None:
    text, found = LIMITS.objection_to(request(**asked))  # type: ignore[arg-type]
    assert found == field
    assert bool(text) == bool(field)
    if field:
        assert f"{next(iter(asked.values()))} " in text
        assert "at most" in text


def test_jobs_of_one_peer_together_take_a_part_of_the_machine() -> None:
    held = Resources(cpu_mhz=3000, memory_mb=500)
    assert LIMITS.objection_beside(held, 1, Resources(cpu_mhz=1000, memory_mb=500), MACHINE) == ""
    assert "4000 at most" in LIMITS.objection_beside(held, 1, Resources(cpu_mhz=1001, memory_mb=5), MACHINE)
    assert "2000 at most" in LIMITS.objection_beside(held, 1, Resources(cpu_mhz=10, memory_mb=1501), MACHINE)
    assert "at once, 2" in LIMITS.objection_beside(held, 2, Resources(cpu_mhz=1, memory_mb=1), MACHINE)


def test_without_limits_nothing_is_refused() -> None:
    whole = msgspec.structs.replace(request(), constraints=request(time=5_256_000).constraints)
    assert NO_LIMITS.objection_to(whole) == ("", "")
    assert NO_LIMITS.objection_beside(MACHINE - MACHINE, 1000, MACHINE, MACHINE) == ""


def test_by_default_no_stranger_gets_the_whole_machine_nor_for_years() -> None:
    default = Strangers()
    assert 0 < default.max_minutes <= 31 * 24 * 60
    assert default.max_share < 100
    assert default.max_jobs
    assert not default.trust_payments
