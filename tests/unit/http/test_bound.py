"""The address that the HTTP server is bound to."""

from __future__ import annotations

import pytest

from dms.adapters.http.server import _bound
from dms.errors import AddressUnavailable, ConfigError


@pytest.mark.parametrize("addr", ["127.0.0..1", "a" * 64, "é" * 70])
def test_what_can_be_no_address_is_a_fault_of_the_configuration(addr: str) -> None:
    with pytest.raises(ConfigError, match="neither an IP address nor a name") as caught:
        _bound(addr, 0)
    assert not isinstance(caught.value, AddressUnavailable)  # no restart mends it


def test_what_may_be_one_later_is_none_of_it() -> None:
    with pytest.raises(AddressUnavailable):
        _bound("192.0.2.1", 0)
