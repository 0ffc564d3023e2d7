"""`nunet policy` and `nunet usage` against a tiny daemon."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.cli.nunet import nunet
from tests.unit.cli.tiny_dms import TinyDms

PEER = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
POLICY: dict[str, Any] = {
    "images": {"allow": ["ghcr.io/nunet/*"], "deny": []}, "peers": {"allow": [], "deny": [PEER]},
}  # fmt: skip
EMPTY: dict[str, Any] = {"images": {"allow": [], "deny": []}, "peers": {"allow": [], "deny": []}}


def test_the_lists_are_shown_for_people_and_programs(tiny: TinyDms) -> None:
    tiny.answers["GET /device/policy"] = (200, POLICY)
    _, *rows = nunet("policy", "show", tiny=tiny).stdout.splitlines()
    assert [row.split() for row in rows] == [["allow", "image", "ghcr.io/nunet/*"], ["deny", "peer", PEER]]
    assert json.loads(nunet("policy", "show", "-o", "json", tiny=tiny).stdout) == POLICY
    tiny.answers["GET /device/policy"] = (200, EMPTY)
    assert "all images and all peers are taken" in nunet("policy", "show", tiny=tiny).stderr


def test_an_entry_is_added_to_a_list_and_the_others_stay(tiny: TinyDms) -> None:
    tiny.answers["GET /device/policy"] = (200, POLICY)
    tiny.answers["PUT /device/policy"] = (200, POLICY)
    assert nunet("policy", "deny", "image", "busybox", "busybox", tiny=tiny).exit_code == 0
    wanted = POLICY | {"images": {"allow": ["ghcr.io/nunet/*"], "deny": ["busybox"]}}
    assert tiny.asked[-1] == ("PUT /device/policy", {}, wanted)


def test_an_entry_is_taken_off_and_one_that_is_on_no_list_is_said(tiny: TinyDms) -> None:
    tiny.answers["GET /device/policy"] = (200, POLICY)
    tiny.answers["PUT /device/policy"] = (200, POLICY)
    assert nunet("policy", "remove", "peer", PEER, tiny=tiny).exit_code == 0
    assert tiny.asked[-1] == ("PUT /device/policy", {}, POLICY | {"peers": {"allow": [], "deny": []}})
    missing = nunet("policy", "remove", "image", "busybox", tiny=tiny)
    assert (missing.exit_code, "not on a list: busybox" in missing.stderr) == (3, True)


def test_what_was_refused_is_shown_with_the_reason(tiny: TinyDms) -> None:
    one = {"peer_id": PEER, "kind": "capacity", "reason": "no capacity left", "job_id": "", "count": 7,
           "first_at": "2026-01-31T12:00:00+00:00", "last_at": "2026-01-31T12:00:00+00:00"}  # fmt: skip
    tiny.answers["GET /device/refusals"] = (200, {"items": [one]})
    _, row = nunet("policy", "refused", tiny=tiny).stdout.splitlines()
    assert [word in row for word in (PEER, "no capacity left", " 7 ")] == [True] * 3


def sample(cores: float | None, memory_mb: int, *gpus: int) -> dict[str, Any]:
    told = [{"uuid": f"GPU-{n}", "utilization_percent": n, "memory_mb": 1} for n in gpus]
    return {"time": "2026-01-31T12:00:00+00:00", "cpu_cores": cores, "memory_mb": memory_mb, "gpus": told}


def test_usage_is_a_row_each_with_curves(tiny: TinyDms) -> None:
    found = {
        "every_seconds": 10.0, "cores": 4, "memory_mb": 16_000,
        "machine": [sample(None, 4000), sample(0.5, 4000, 0, 50), sample(1.0, 4000, 0, 80)],
        "jobs": [{"job_id": "job-1", "samples": [sample(None, 10)]}, {"job_id": "job-2", "samples": []}],
    }  # fmt: skip
    tiny.answers["GET /device/usage"] = (200, found)
    heading, machine, job = nunet("usage", tiny=tiny).stdout.splitlines()
    assert [word in heading for word in ("CORES", "MEMORY (MB)", "GPU (%)")] == [True] * 3
    assert [word in machine for word in ("this machine", "1.00", "4000", "0, 80")] == [True] * 4
    assert job.split()[:2] == ["job-1", "10"]
    assert json.loads(nunet("usage", "-o", "json", tiny=tiny).stdout) == found
    nunet("usage", "--job", "00000000-0000-0000-0000-000000000000", tiny=tiny)
    assert tiny.asked[-1][1] == {"job_id": "00000000-0000-0000-0000-000000000000"}


def test_what_offboarding_means_is_told_and_nothing_is_done(tiny: TinyDms) -> None:
    found = {"onboarded": True, "needs_force": False, "running_jobs": [], "kept_places": 0,
             "unclaimed": {"jobs": 1, "ntx": "0.4"}, "means": ["0.4 NTX of 1 job(s) are not claimed yet"]}  # fmt: skip
    tiny.answers["GET /onboarding/offboard"] = (200, found)
    assert nunet("offboard", "--dry-run", tiny=tiny).stdout.splitlines() == found["means"]
    assert json.loads(nunet("offboard", "--dry-run", "-o", "json", tiny=tiny).stdout) == found
    assert {asked for asked, _, _ in tiny.asked} == {"GET /onboarding/offboard"}


def test_peers_are_listed_with_their_distance(tiny: TinyDms) -> None:
    one = {"ID": PEER, "Addrs": [], "provider": True, "rtt_ms": 4.2, "since": "2026-01-31T12:00:00+00:00"}
    tiny.answers["GET /peers"] = (200, [one])
    tiny.answers["GET /peers/dht"] = (200, [PEER])
    line = nunet("peer", "list", tiny=tiny).stdout.splitlines()[1]
    assert line.startswith(f"{PEER}  provider  4.2 ms  since 2026-01-31 ")
    (row,) = json.loads(nunet("peer", "list", "-o", "json", tiny=tiny).stdout)
    assert (row["rtt_ms"], row["since"]) == (4.2, "2026-01-31T12:00:00+00:00")
