"""`nunet onboard`, `nunet offboard` and `nunet resource-config`."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.nunet import PROVISIONED, nunet
from tests.unit.cli.tiny_dms import TinyDms


def test_onboarding_sends_what_the_flags_say(tiny: TinyDms) -> None:
    tiny.answers["GET /onboarding/status"] = (200, {"onboarded": False})
    tiny.answers["POST /onboarding/onboard"] = (200, {"name": "host"})
    args = (
        "-m",
        "4000.7",
        "-c",
        "8000",
        "-n",
        "nunet-test",
        "-a",
        "addr1",
        "-x",
        "0.5",
        "-C",
        "-l",
        "-u",
        "-p",
        "ipfs",
    )
    result = nunet("onboard", *args, "-o", "json", tiny=tiny)
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"name": "host"})
    assert tiny.asked[-1][2] == {
        "memory": 4000,
        "cpu": 8000,
        "channel": "nunet-test",
        "payment_addr": "addr1",
        "cardano": True,
        "server_mode": False,
        "is_available": False,
        "ntx_price": 0.5,
        "plugins": ["ipfs"],
    }


def test_onboarding_asks_nothing_without_a_terminal(tiny: TinyDms) -> None:
    tiny.answers["GET /onboarding/status"] = (200, {"onboarded": False})
    result = nunet("onboard", "-c", "8000", "-n", "nunet-test", "-a", "addr1", tiny=tiny)
    assert result.exit_code == 2
    assert "memory must be provided and greater than 0" in result.stderr


def test_onboarding_again_must_be_agreed_to(tiny: TinyDms) -> None:
    tiny.answers["GET /onboarding/status"] = (200, {"onboarded": True})
    tiny.answers["POST /onboarding/onboard"] = (200, {})
    args = ("onboard", "-m", "4000", "-c", "8000", "-n", "nunet-test", "-a", "addr1")
    assert nunet(*args, tiny=tiny).exit_code == 5
    assert nunet(*args, "--yes", tiny=tiny).exit_code == 0


def test_offboarding_sends_force_where_the_server_reads_it(tiny: TinyDms) -> None:
    tiny.answers["POST /onboarding/offboard"] = (200, {"message": "Successfully Offboarded"})
    assert nunet("offboard", tiny=tiny).exit_code == 5
    assert nunet("offboard", "--yes", "--force", tiny=tiny).exit_code == 0
    assert tiny.asked == [("POST /onboarding/offboard", {"force": "true"}, None)]


@pytest.mark.parametrize(("memory", "cpu"), [("50%", "50%"), ("2000", "4000"), ("2000.9", "50 %")])
def test_a_share_of_the_machine_is_offered(tiny: TinyDms, memory: str, cpu: str) -> None:
    tiny.answers["GET /onboarding/status"] = (200, {"onboarded": False})
    tiny.answers["GET /onboarding/provisioned"] = (200, PROVISIONED)
    tiny.answers["POST /onboarding/onboard"] = (200, {})
    tiny.answers["POST /onboarding/resource-config"] = (200, {})
    nunet("onboard", "-m", memory, "-c", cpu, "-n", "nunet-test", "-a", "addr", tiny=tiny)
    nunet("resource-config", "-m", memory, "-c", cpu, tiny=tiny)
    bodies = [body for path, _, body in tiny.asked if path.startswith("POST")]
    assert [(body["memory"], body["cpu"]) for body in bodies] == [(2000, 4000)] * 2


@pytest.mark.parametrize("odd", ["half", "%", "50%%", "nan", "-50%", "0%"])
def test_what_is_no_amount_is_wrong_usage(tiny: TinyDms, odd: str) -> None:
    tiny.answers["GET /onboarding/status"] = (200, {"onboarded": False})
    tiny.answers["GET /onboarding/provisioned"] = (200, PROVISIONED)
    result = nunet("onboard", "-m", odd, "-c", "1000", "-n", "nunet-test", "-a", "addr", tiny=tiny)
    assert result.exit_code == 2


@pytest.mark.parametrize("price", ["nan", "-1", "inf"])
def test_a_price_that_is_none_is_refused_with_the_range(tiny: TinyDms, price: str) -> None:
    tiny.answers["GET /onboarding/status"] = (200, {"onboarded": False})
    result = nunet("onboard", "-m", "1", "-c", "1", "-n", "nunet-test", "-a", "a", f"--ntx-price={price}", tiny=tiny)
    assert result.exit_code == 2
    assert "hint: 0 to 1000000 NTX a minute\n" in result.stderr
