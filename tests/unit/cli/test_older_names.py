"""Flags, names and output that scripts of the original's generations use."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.nunet import nunet
from tests.unit.cli.tiny_dms import TinyDms

AMOUNTS = {"cpu_mhz": 4000, "memory_mb": 8000, "vram_mb": 0}


@pytest.mark.parametrize("name", ["capacity", "available"])
def test_flags_of_older_generations_work_or_say_where_they_went(tiny: TinyDms, name: str) -> None:
    parts = {"total": AMOUNTS, "free": AMOUNTS | {"cpu_mhz": 1000}, "onboarded": AMOUNTS | {"cpu_mhz": 3000}}
    tiny.answers["GET /capacity"] = (200, {"providers": [{"own": True, **parts}], "network": {"online": 1, **parts}})
    tiny.answers["GET /onboarding/provisioned"] = (200, {"cpu": 9000.0, "memory": 16000, "total_cores": 4})
    for flag, kinds in (
        ("--full", ["Full"]), ("-f", ["Full"]), ("-a", ["Available"]), ("-o", ["Onboarded"]),
        ("-p", ["Full", "Available", "Onboarded"]), ("--pretty", ["Full", "Available", "Onboarded"]),
        ("-v", ["Full", "Available", "Onboarded"]),
    ):  # fmt: skip
        shown = nunet(name, flag, "--output", "json", tiny=tiny)
        rows = {row["resources"]: row["cpu_mhz"] for row in json.loads(shown.stdout)}
        expected = {"Full": 9000, "Available": 1000, "Onboarded": 3000}
        assert {kind: rows[kind] for kind in expected if kind in rows} == {kind: expected[kind] for kind in kinds}
    for flag, now in (
        ("-gpu", "nunet gpu status"), ("--gpu-status", "nunet gpu status"), ("-ct", "nunet gpu capacity --cuda-tensor"),
        ("--cuda-tensor", "nunet gpu capacity --cuda-tensor"), ("--rocm-hip", "nunet gpu capacity --rocm-hip"),
    ):  # fmt: skip
        moved = nunet(name, flag, tiny=tiny)
        assert (moved.exit_code, moved.stderr.splitlines()[-1]) == (2, f"hint: {now}")


def test_resource_config_sends_what_the_flags_say(tiny: TinyDms) -> None:
    tiny.answers["POST /onboarding/resource-config"] = (200, {"name": "host"})
    done = nunet("resource-config", "-m", "6000.9", "-c", "9000", "-x", "0.5", tiny=tiny)
    assert (done.exit_code, done.stderr) == (0, "Resources updated successfully!\n")
    assert tiny.asked[-1][2] == {"memory": 6000, "cpu": 9000, "ntx_price": 0.5}
    nunet("resource-config", "--memory", "6000", "--cpu", "9000", tiny=tiny)
    assert tiny.asked[-1][2] == {"memory": 6000, "cpu": 9000}
    missing = nunet("resource-config", "-m", "6000", tiny=tiny)
    assert missing.exit_code == 2
    assert "all flag values must be specified" in missing.stderr
    assert "hint: nunet resource-config -m MB -c MHZ [-x NTX]\n" in missing.stderr


def test_peers_are_listed_under_the_originals_headings(tiny: TinyDms) -> None:
    tiny.answers["GET /peers"] = (200, [{"ID": "QmA", "Addrs": ["/ip4/10.0.0.1/tcp/9000"]}])
    tiny.answers["GET /peers/dht"] = (200, ["QmB", "QmC"])
    tiny.answers["GET /peers/self"] = (
        200,
        {"ID": "QmS", "Addrs": ["/ip4/10.0.0.2/tcp/9000", "/ip4/10.0.0.3/tcp/9000"]},
    )
    providers = ["DHT peers (2)", "QmB", "QmC"]
    listed = nunet("peer", "list", tiny=tiny).stdout.splitlines()
    assert listed == ["Bootstrap peers (1)", "QmA", "", *providers]
    assert nunet("peer", "list", "-d", tiny=tiny).stdout.splitlines() == providers
    own = nunet("peer", "self", tiny=tiny).stdout.splitlines()
    assert own == ["Host ID: QmS", "/ip4/10.0.0.2/tcp/9000, /ip4/10.0.0.3/tcp/9000"]
    tiny.answers |= {"GET /peers": (200, []), "GET /peers/dht": (200, [])}
    nobody = nunet("peer", "list", tiny=tiny)
    assert (nobody.exit_code, nobody.stdout.splitlines()) == (0, ["Bootstrap peers (0)", "", "DHT peers (0)"])
