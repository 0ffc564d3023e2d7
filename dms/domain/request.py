"""The service request: what a user asks for, with the names and units of the original API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from dms.domain.environment import Variables, problems_of_environment
from dms.domain.gpus import GpuWish
from dms.domain.image import parse_image
from dms.domain.inputs import MOST_INPUTS, Input, problems_of_inputs, shown
from dms.domain.network import Network, network_of
from dms.domain.resources import LEAST_CPU_MHZ, LEAST_MEMORY_MB, Resources
from dms.domain.results import MOST_PATTERNS, problem_of_pattern
from dms.domain.retry import Retry
from dms.domain.sealing import ERASED
from dms.errors import InvalidInput

Text = Annotated[str, Meta(max_length=512)]
LongText = Annotated[str, Meta(max_length=8192)]

SERVICE_TYPES = ("ml-training-cpu", "ml-training-gpu", "cardano_node")
MACHINE_TYPES = ("", "cpu", "gpu")
MOST_ARGUMENT_BYTES = 128 * 1024 - 1  # Linux: MAX_ARG_STRLEN, of one argument with the NUL at its end
MOST_REQUEST_BYTES = 160 * 1024  # as JSON: sealed in an event it is a third longer, and fits into a frame


class ResumeJob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    resume: bool = False
    progress_file: Text = ""


class Params(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """node_id: set by the client, it targets that compute provider. arguments: the container's own; unless they are
    given it gets model_url and packages. inputs: are in /workspace before the container starts. results: patterns of
    what comes back, below /workspace; none: see `domain/results.py`. env, secret_env: variables of the container; the
    values of the latter stand sealed in events."""

    image_id: Annotated[str, Meta(min_length=1, max_length=512)]
    model_url: LongText = ""
    packages: Annotated[tuple[Text, ...], Meta(max_length=256)] | None = ()
    arguments: Annotated[tuple[LongText, ...], Meta(max_length=256)] | None = None
    machine_type: Text = ""
    node_id: Text = ""
    public_key: Text = ""
    local_node_id: Text = ""
    local_public_key: Text = ""
    resume_job: ResumeJob | None = None
    inputs: Annotated[tuple[Input, ...], Meta(max_length=MOST_INPUTS)] = ()
    results: Annotated[tuple[Text, ...], Meta(max_length=MOST_PATTERNS)] = ()
    env: Variables = {}
    secret_env: Variables = {}


class Constraints(Struct, frozen=True, kw_only=True):
    """cpu in MHz, ram in MB, power in W, time in minutes. gpus: how many, 0 for one where the machine
    type is gpu; vram: of each of them, in MB; share_gpu: they may be given to other such jobs as well.
    network: "none" or "internet"; empty for what `ServiceRequest.network` makes of it.
    The upper bounds are far above any machine; they keep sums in range."""

    complexity: Text
    cpu: Annotated[int, Meta(ge=1, le=100_000_000)]
    ram: Annotated[int, Meta(ge=1, le=1_000_000_000)]
    time: Annotated[int, Meta(ge=1, le=5_256_000)]
    vram: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    power: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    gpus: Annotated[int, Meta(ge=0, le=64)] = 0
    share_gpu: bool = False
    network: Text = ""


class ServiceRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of POST /run/request-service, and what travels to the compute provider. retry: stays with who asks."""

    service_type: Text
    params: Params
    constraints: Constraints
    max_ntx: Annotated[float, Meta(ge=0, le=1e15)]
    address_user: Text = ""
    blockchain: Text = ""
    tx_hash: Text = ""
    retry: Retry | None = None

    @property
    def wants_gpu(self) -> bool:
        """Known clients send a VRAM figure with every job; only this decides whether it counts."""
        return self.params.machine_type.casefold() == "gpu"

    def without_secrets(self) -> ServiceRequest:
        """For who is only asked whether it could run it: not the values of secret variables, not what follows the path
        of a URL (a signed link), not who pays."""
        params = replace(
            self.params,
            model_url=shown(self.params.model_url),
            inputs=tuple(replace(one, url=shown(one.url)) for one in self.params.inputs),
            secret_env={},
        )
        return replace(self, params=params, address_user="", tx_hash="")

    @property
    def gpu_wish(self) -> GpuWish | None:
        if not self.wants_gpu:
            return None
        wanted = self.constraints
        return GpuWish(count=wanted.gpus or 1, vram_mb=wanted.vram, shared=wanted.share_gpu)

    @property
    def max_attempts(self) -> int:
        return self.retry.max_attempts if self.retry else 1

    def for_attempt(self, minutes: int) -> ServiceRequest:
        """As a provider gets it. minutes: that it may run."""
        return replace(self, constraints=replace(self.constraints, time=minutes), retry=None)

    @property
    def resources(self) -> Resources:
        wish = self.gpu_wish
        return Resources(
            cpu_mhz=self.constraints.cpu,
            memory_mb=self.constraints.ram,
            vram_mb=wish.count * wish.vram_mb if wish else 0,
        )

    @property
    def network(self) -> Network:
        """What it needs. When it does not say, the image of a job of the original's shape fetches its model and
        packages itself. Raises InvalidInput for a word that nobody knows."""
        if self.constraints.network:
            return network_of(self.constraints.network)
        params = self.params
        fetches = (params.model_url or params.packages) and not params.inputs
        return Network.INTERNET if fetches else Network.NONE

    @property
    def arguments(self) -> tuple[str, ...]:
        """The container's: those given, or as in the original model_url, then all packages joined by spaces as one."""
        if self.params.arguments is not None:
            return self.params.arguments
        return (self.params.model_url, " ".join(self.params.packages or ()))


PERSONAL_FIELDS: Mapping[str, Any] = {
    "address_user": ERASED,
    "tx_hash": ERASED,
    "params.image_id": ERASED,
    "params.model_url": ERASED,
    "params.packages": [],
    "params.arguments": None,
    "params.local_node_id": "",
    "params.local_public_key": "",
    "params.resume_job": None,
    "params.inputs": [],
    "params.results": [],
    "params.env": {},
    "params.secret_env": {},
}
"""What of a request tells who asked, and for what. Resources, time, price and target are not a person's."""


def problems_of(request: ServiceRequest) -> list[tuple[str, str]]:
    """(JSON pointer, what is wrong) for what the types alone can't say."""
    found: list[tuple[str, str]] = []
    if request.service_type not in SERVICE_TYPES:
        found.append(("/service_type", f"unknown service type; one of {', '.join(SERVICE_TYPES)}"))
    if request.params.machine_type.casefold() not in MACHINE_TYPES:
        found.append(("/params/machine_type", "unknown machine type; cpu or gpu"))
    if request.constraints.gpus and not request.wants_gpu:
        found.append(("/constraints/gpus", 'GPUs are given only with params.machine_type "gpu"'))
    try:
        parse_image(request.params.image_id)
    except InvalidInput as error:
        found.append(("/params/image_id", str(error)))
    try:
        _ = request.network
    except InvalidInput as error:
        found.append(("/constraints/network", str(error)))
    params = request.params
    found += problems_of_inputs(params.inputs) + problems_of_environment(params.env, params.secret_env)
    found += [
        (f"/params/results/{number}", problem)
        for number, pattern in enumerate(params.results)
        if (problem := problem_of_pattern(pattern))
    ]
    return found + _problems_of_arguments(request) + _below_floors(request.constraints)


def settled(request: ServiceRequest) -> ServiceRequest:
    """As it is recorded and sent, with what it left to the rules: a later rule must not change what was asked."""
    return replace(request, constraints=replace(request.constraints, network=request.network.value))


def _problems_of_arguments(request: ServiceRequest) -> list[tuple[str, str]]:
    """What no program can be given as its arguments. Together, since an executor may hand them on as one."""
    params = request.params
    named = (
        ("/params/model_url", (params.model_url,)),
        ("/params/packages", params.packages or ()),
        ("/params/arguments", params.arguments or ()),
    )
    found = [
        (pointer, "has a NUL character, which no program can be given; leave it out")
        for pointer, texts in named
        if any("\0" in text for text in texts)
    ]
    given = params.arguments is not None
    if given and (params.model_url or params.packages):
        text = "stand in place of model_url and packages: give either, not both"
        found.append(("/params/arguments", text))
    length = len(" ".join(request.arguments).encode("utf-8", "surrogatepass"))
    if length > MOST_ARGUMENT_BYTES:
        pointer, name = ("/params/arguments", "arguments") if given else ("/params/packages", "model_url and packages")
        text = f"{name} together have {length} bytes, at most {MOST_ARGUMENT_BYTES} can be passed on"
        found.append((pointer, f"{text}; put them into a file that the job fetches, or into the image"))
    elif (size := len(msgspec.json.encode(request))) > MOST_REQUEST_BYTES:
        found.append(("", f"the request has {size} bytes, at most {MOST_REQUEST_BYTES}; put some of it into an input"))
    return found


def _below_floors(wanted: Constraints) -> list[tuple[str, str]]:
    """A container would get more than was asked and paid for."""
    floors = (
        ("/constraints/ram", wanted.ram, LEAST_MEMORY_MB, "MB"),
        ("/constraints/cpu", wanted.cpu, LEAST_CPU_MHZ, "MHz"),
    )
    return [(at, f"{n} {unit} asked, a container has at least {least}") for at, n, least, unit in floors if n < least]


def is_key_of(named: str, key: str) -> bool:
    """Whether a request's `public_key` can stand for that key (hex). The original's own clients put the
    key's type there in place of the key, or nothing."""
    return named.casefold() in ("", "rsa", "ed25519", key)


def strangers_of(params: Params, provider: tuple[str, str], service_provider: tuple[str, str]) -> list[str]:
    """What a deployment request says wrongly of its two sides; each as (peer id, key in hex) of the secured
    connection."""
    found: list[str] = []
    for name, named, real in (
        ("node_id", params.node_id, provider[0]),
        ("local_node_id", params.local_node_id, service_provider[0]),
    ):
        if named not in ("", real):
            found.append(f"{name} is {named[:64]}, not {real}")
    for name, named, key in (
        ("public_key", params.public_key, provider[1]),
        ("local_public_key", params.local_public_key, service_provider[1]),
    ):
        if not is_key_of(named, key):
            found.append(f"{name} is not the key of that node")
    return found
