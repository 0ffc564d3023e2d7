"""The service request: what a user asks for, with the names and units of the original API."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from dms.domain.resources import Resources

Text = Annotated[str, Meta(max_length=512)]
LongText = Annotated[str, Meta(max_length=8192)]

SERVICE_TYPES = ("ml-training-cpu", "ml-training-gpu", "cardano_node")
MACHINE_TYPES = ("", "cpu", "gpu")


class ResumeJob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    resume: bool = False
    progress_file: Text = ""


class Params(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """node_id: set by the client, it targets that compute provider."""

    image_id: Annotated[str, Meta(min_length=1, max_length=512)]
    model_url: LongText = ""
    packages: Annotated[tuple[Text, ...], Meta(max_length=256)] | None = ()
    machine_type: Text = ""
    node_id: Text = ""
    public_key: Text = ""
    local_node_id: Text = ""
    local_public_key: Text = ""
    resume_job: ResumeJob | None = None


class Constraints(Struct, frozen=True, kw_only=True):
    """cpu in MHz, ram and vram in MB, power in W, time in minutes. The upper bounds are far above
    any machine; they keep sums in range."""

    complexity: Text
    cpu: Annotated[int, Meta(ge=1, le=100_000_000)]
    ram: Annotated[int, Meta(ge=1, le=1_000_000_000)]
    time: Annotated[int, Meta(ge=1, le=5_256_000)]
    vram: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    power: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class ServiceRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of POST /run/request-service, and what travels to the compute provider."""

    service_type: Text
    params: Params
    constraints: Constraints
    max_ntx: Annotated[float, Meta(ge=0, le=1e15)]
    address_user: Text = ""
    blockchain: Text = ""
    tx_hash: Text = ""

    @property
    def wants_gpu(self) -> bool:
        """Known clients send a VRAM figure with every job; only this decides whether it counts."""
        return self.params.machine_type.casefold() == "gpu"

    @property
    def resources(self) -> Resources:
        return Resources(
            cpu_mhz=self.constraints.cpu,
            memory_mb=self.constraints.ram,
            vram_mb=self.constraints.vram if self.wants_gpu else 0,
        )

    @property
    def arguments(self) -> tuple[str, ...]:
        """The container's arguments: model_url, then all packages joined by spaces as one."""
        return (self.params.model_url, " ".join(self.params.packages or ()))


def problems_of(request: ServiceRequest) -> list[tuple[str, str]]:
    """(JSON pointer, what is wrong) for what the types alone can't say."""
    found: list[tuple[str, str]] = []
    if request.service_type not in SERVICE_TYPES:
        found.append(("/service_type", f"unknown service type; one of {', '.join(SERVICE_TYPES)}"))
    if request.params.machine_type.casefold() not in MACHINE_TYPES:
        found.append(("/params/machine_type", "unknown machine type; cpu or gpu"))
    return found
