"""What the owner of a machine does not decide: whether it can run jobs just now, and how well they are confined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar

from dms.domain.aggregate import Aggregate, applies
from dms.domain.check import Check
from dms.domain.event import Event, register
from dms.domain.network import Network
from dms.domain.sandbox import trouble_of
from dms.domain.sealing import ERASED


class DeviceState(StrEnum):
    ABSENT = "not onboarded"  # yet, or any more
    ONBOARDED = "onboarded"


class DeviceCondition(Aggregate):
    """The part of Device that is observed, not decided."""

    @register
    class Hindered(Event, frozen=True, kw_only=True, gc=False):
        """No job can be run here just now, whatever the owner set. The reason may name paths and addresses."""

        TOPIC: ClassVar[str] = "device.hindered"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str

    @register
    class Unhindered(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "device.unhindered"

    @register
    class NetworkChanged(Event, frozen=True, kw_only=True, gc=False):
        """The most that jobs are given, and why it is no more; the reason may name paths and addresses."""

        TOPIC: ClassVar[str] = "device.network_changed"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        network: str
        reason: str = ""

    @register
    class SandboxTested(Event, frozen=True, kw_only=True, gc=False):
        """What a test container found about the sandbox of jobs; recorded when it differs from before. engine: name and
        version. The rows may name paths and addresses."""

        TOPIC: ClassVar[str] = "device.sandbox_tested"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"rows": []}
        engine: str
        rows: tuple[Check, ...]

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.hindrance = ""  # why no job can be run just now
        self.network = ""  # the most that a job is given; empty: it was not tried yet
        self.network_trouble = ""  # why it is not more
        self.engine = ""  # whose sandbox was tried last
        self.sandbox: tuple[Check, ...] = ()  # what came of it; none: it was not tried yet, or there is none

    @property
    def onboarded(self) -> bool:
        return self.life.state is DeviceState.ONBOARDED

    def hinder(self, reason: str) -> bool:
        """Whether that is news; the reason may change. Also of a machine that is not onboarded."""
        if reason == self.hindrance:
            return False
        self.trigger(self.Hindered(reason=reason))
        return True

    def unhinder(self) -> bool:
        """Whether that is news."""
        if not self.hindrance:
            return False
        self.trigger(self.Unhindered())
        return True

    def give_network(self, network: Network, reason: str = "") -> bool:
        """Whether that is news. reason: why it is no more. Nothing is recorded for a machine that is not onboarded."""
        if not self.onboarded or (network, reason) == (self.network, self.network_trouble):
            return False
        self.trigger(self.NetworkChanged(network=network.value, reason=reason))
        return True

    @property
    def sandbox_trouble(self) -> str:
        """Why the sandbox does not confine jobs; empty when it does, as far as is known."""
        return trouble_of(self.sandbox)

    def see_sandbox(self, engine: str, rows: Sequence[Check]) -> bool:
        """Whether that is news. Nothing is recorded for a machine that is not onboarded."""
        if not self.onboarded or (engine, tuple(rows)) == (self.engine, self.sandbox) or not (rows or self.sandbox):
            return False
        self.trigger(self.SandboxTested(engine=engine, rows=tuple(rows)))
        return True

    @applies(Hindered)
    def _hindered(self, event: Hindered) -> None:
        self.hindrance = event.reason

    @applies(Unhindered)
    def _unhindered(self, _: Unhindered) -> None:
        self.hindrance = ""

    @applies(NetworkChanged)
    def _network_changed(self, event: NetworkChanged) -> None:
        self.network, self.network_trouble = event.network, event.reason

    @applies(SandboxTested)
    def _sandbox_tested(self, event: SandboxTested) -> None:
        self.engine, self.sandbox = event.engine, event.rows
