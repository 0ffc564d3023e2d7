"""What build() makes: parts that a test may replace, and nothing left open when it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.bootstrap import build
from dms.config import Eventlog, Funding
from dms.errors import AlreadyRunning, ConfigError
from dms.wiring.overrides import Overrides
from tests.fixtures.own_daemon import own_settings
from tests.integration.http.node import FixedHardware, LonelyNetwork


async def test_what_is_replaced_is_what_the_services_use(tmp_path: Path) -> None:
    overrides = Overrides(
        now=lambda: 1_000_000, hardware=FixedHardware(), network=lambda own: LonelyNetwork(own.peer_id)
    )
    daemon = await build(own_settings(tmp_path), overrides)
    try:
        assert isinstance(daemon.services.network, LonelyNetwork)
        assert daemon.services.now() == 1_000_000
        assert daemon.services.device.capacity() == FixedHardware().capacity()
    finally:
        await daemon.close()


async def test_a_daemon_that_was_built_and_not_started_is_closed_without_a_trace(tmp_path: Path) -> None:
    first = await build(own_settings(tmp_path))
    with pytest.raises(AlreadyRunning):
        await build(own_settings(tmp_path))
    await first.close()
    second = await build(own_settings(tmp_path))
    assert second.services.network.peer_id == first.services.network.peer_id
    await second.close()


@pytest.mark.parametrize(
    "wrong", [{"funding": Funding(check="ledger")}, {"eventlog": Eventlog(url="postgresql://me@host/dms")}]
)
async def test_a_build_that_fails_leaves_the_log_free(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        await build(own_settings(tmp_path, **wrong))
    daemon = await build(own_settings(tmp_path))
    await daemon.close()
