"""What an aggregate is before anything happened to it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dms.domain.aggregate import Aggregate
from dms.domain.api_token import ApiToken, Role
from dms.domain.attempt import Attempt
from dms.domain.deployment import Deployment
from dms.domain.device import Capacity, Device
from dms.domain.device_policy import DevicePolicy
from dms.domain.erasure import Erasure
from dms.domain.hold import Hold
from dms.domain.job import Job
from dms.domain.network import Network
from dms.domain.payment import Payment
from dms.domain.resources import Resources
from dms.domain.reward import Fault
from dms.domain.run_time import Instant
from dms.domain.transfer import Direction, Transfer

PAID_WORK: dict[str, Any] = {
    "request": None, "resume": None, "price": "", "payee": "", "funding_reason": "", "funding_until": 0,
    "funded": False, "payer": "", "block": 0, "outcome": None, "claimed": False, "settled": "",
}  # fmt: skip
JOB: dict[str, Any] = {
    "minutes_left": 0, "checkpoint_offered": None, "checkpoint_received": None, "checkpoint_settled": 0,
    "results_offered": None, "results_received": None, "results_loss": "", "results_removed": False,
    "log_is_sealed": False, "max_attempts": 1, "last_failure": None, "failure": "", "misbehaviours": 0,
    "termination": None, "expires_at": 0, "tx_hash": "", "stop_since": None, "last_status": None, "client": "",
}  # fmt: skip
DEPLOYMENT: dict[str, Any] = {
    "inputs_started": set(), "inputs": {}, "log_sealed": False, "results": None, "results_trouble": "",
    "results_fault": Fault.NONE, "results_delivered": False, "results_deleted": False, "service_provider": "",
    "reserved": Resources(), "gpu_uuids": (), "gpus_shared": False, "network": Network.NONE,
    "for_stranger": False, "digest": "",
    "container_id": "", "stops_at": 0, "boot_id": "", "started_boot_us": 0, "stop": None, "rejection": "",
    "fault": None, "restored": False, "checkpoint": None, "checkpoint_trouble": "", "delivered": 0, "deleted": 0,
}  # fmt: skip
DEVICE: dict[str, Any] = {
    "hindrance": "", "network": "", "network_trouble": "", "engine": "", "sandbox": (), "available": False,
    "channel": "", "payment_address": "", "blockchain": "", "allow_cardano": False, "ntx_price": Decimal(0),
    "hostname": "", "default_provider": "", "policy": DevicePolicy(), "offered": Resources(),
    "total": Capacity(cpu_mhz=0, memory_mb=0, cores=0),
}  # fmt: skip
BEGINNINGS: dict[type[Aggregate], dict[str, Any]] = {
    Job: PAID_WORK | JOB,
    Deployment: PAID_WORK | DEPLOYMENT,
    Device: DEVICE,
    Hold: {"asker": "", "reserved": Resources(), "gpu_uuids": (), "gpus_shared": False, "expires_at": 0},
    Transfer: {
        "direction": Direction.IN, "peer_id": "", "name": "", "sha256": "", "source": "", "saved_as": "",
        "reason": "", "size_bytes": 0, "offered": Instant("", 0, 0),
    },
    Payment: {"job_id": "", "_paid_jobs": set(), "_hidden_jobs": set()},
    Erasure: {"scopes": (), "completed": False},
    ApiToken: {"name": "", "digest": "", "expires_at": 0, "role": Role.READ, "revoked": False},
}  # fmt: skip


@pytest.mark.parametrize("kind", BEGINNINGS, ids=lambda kind: kind.__name__)
def test_an_aggregate_begins_as_nothing(kind: type[Aggregate]) -> None:
    state = vars(kind("key"))
    assert state.pop("life").state == kind.RULES.start
    for attempt in state.pop("attempts", []):
        assert (attempt.deployment_id, attempt.number) == ("key", 1)
    own = {"key": "key", "id": f"{kind.KIND}-key", "version": 0, "pending": []}
    assert state == own | BEGINNINGS[kind]


def test_an_attempt_begins_with_what_it_is_given() -> None:
    job_id = "01890a5d-ac96-774b-bcce-b302099a8057"
    state = vars(Attempt(job_id, 2, "12D3KooWProvider", 7, None, 4, 3))
    assert state.pop("provider_life").state == Deployment.RULES.start
    assert vars(state.pop("times")) == {"since": None, "silent_since": None, "_away_seconds": 0.0}
    assert state == {
        "deployment_id": "01890a5d-ac96-874b-bcce-b302099a8057", "number": 2, "provider": "12D3KooWProvider",
        "minutes": 7, "resume": None, "lines_before": 4, "checkpoints_before": 3, "submitted": True,
        "provider_version": 0, "inputs_told": set(), "unreachable": False, "responded": False, "started_at": 0,
        "over": False, "given_at": None, "failure": "", "outcome": None, "telling_settled": False,
    }  # fmt: skip
    first = Attempt(job_id, 1)
    told = (first.deployment_id, first.provider, first.minutes, first.lines_before, first.checkpoints_before)
    assert (told, first.submitted) == ((job_id, "", 0, 0, 0), False)


@pytest.mark.parametrize(
    ("started_at", "saved_at", "seconds", "left"),
    [
        (0, 90_000_000, 0.0, 10),  # an older log
        (1_000_000, 91_500_000, 90.5, 9),
        (1_000_000, 61_000_000, 60.0, 9),
        (1_000_000, 500_000, 0.0, 10),  # before it began
        (1_000_000, 10**12, 600.0, 1),  # behind its end
    ],
)
def test_what_a_checkpoint_holds_and_leaves(started_at: int, saved_at: int, seconds: float, left: int) -> None:
    attempt = Attempt("job", 1, minutes=10)
    attempt.started_at = started_at
    assert attempt.ran_seconds(saved_at) == seconds
    assert attempt.minutes_after(seconds) == left


@pytest.mark.parametrize(
    ("saved_at", "passed", "seconds"),
    [
        (3_601_000_000, 90, 90.0),  # its clock went an hour ahead
        (61_000_000, 90, 60.0),
        (61_000_000, 9_000, 60.0),  # heard of late
        (10**12, 9_000, 600.0),
    ],
)
def test_a_checkpoint_holds_no_more_than_has_passed_here(saved_at: int, passed: int, seconds: float) -> None:
    """The container's start may be told late, and all at once with the checkpoint: so it is no measure."""
    attempt = Attempt("job", 1, minutes=10)
    attempt.give(Instant("boot", 5_000_000, 7_000_000))
    attempt.started_at = 1_000_000
    now = Instant("boot", (5 + passed) * 1_000_000, 9_999_000_000)
    attempt.times.begin(now)
    assert attempt.ran_seconds(saved_at, now) == seconds
    assert attempt.ran_seconds(saved_at) == min(600.0, (saved_at - 1_000_000) / 1_000_000)
