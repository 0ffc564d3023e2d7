"""What a stranger may take of a machine: a peer that its owner has not put on a list, and that runs elsewhere."""

from __future__ import annotations

from msgspec import Struct

from dms.domain.request import ServiceRequest
from dms.domain.resources import Resources

NO_TRUST = (
    "the provider looks up no payments (funding.check is trust), and believes only peers that its owner has allowed: "
    "ask the owner to allow this peer (nunet policy allow peer ID), or choose another provider"
)


class StrangerLimits(Struct, frozen=True, kw_only=True):
    """Of each stranger; 0: no limit beyond what is offered. max_minutes, max_cpu_mhz, max_memory_mb: of one job.
    max_jobs: at once. max_share_percent: of the CPU and of the memory that are offered, for all of its jobs together.
    trusts_payments: whether its word for a payment is believed, where payments are not looked up."""

    max_minutes: int = 0
    max_cpu_mhz: int = 0
    max_memory_mb: int = 0
    max_jobs: int = 0
    max_share_percent: int = 100
    trusts_payments: bool = True

    def objection_to(self, request: ServiceRequest) -> tuple[str, str]:
        """Why such a job is never taken, and the JSON pointer of what is too much; empty when it is."""
        wanted = request.constraints
        for name, unit, field, asked, most in (
            ("time", "minutes", "time", wanted.time, self.max_minutes),
            ("CPU", "MHz", "cpu", wanted.cpu, self.max_cpu_mhz),
            ("memory", "MB", "ram", wanted.ram, self.max_memory_mb),
        ):
            if most and asked > most:
                text = f"{asked} {unit} of {name} asked; the provider's owner gives {most} at most to a peer it "
                return f"{text}has not allowed", f"/constraints/{field}"
        return "", ""

    def objection_beside(self, held: Resources, jobs: int, wanted: Resources, offered: Resources) -> str:
        """Why it is not taken now, beside the peer's other jobs. held, jobs: what these take, and how many they are."""
        if self.max_jobs and jobs >= self.max_jobs:
            return f"the provider runs as many jobs of this peer as it may have at once, {self.max_jobs}"
        share, needed = self.max_share_percent, held + wanted
        for name, unit, asked, whole in (
            ("CPU", "MHz", needed.cpu_mhz, offered.cpu_mhz),
            ("memory", "MB", needed.memory_mb, offered.memory_mb),
        ):
            if asked * 100 > whole * share:
                most = whole * share // 100
                return f"{asked} {unit} of {name} for this peer; it may have {most} at most, {share} % of the machine"
        return ""


NO_LIMITS = StrangerLimits()
