"""What a request may need of a provider beyond room and price. A provider names in its advertisement what it can do;
one of an earlier version names nothing, and would leave out in silence what it doesn't know.

To add one: a line in FEATURES. What every DMS of this version can do is in UNDERSTOOD as well; what depends on how a
machine is set up is told to `DeviceService` by its wiring, or follows from the state of the device, as INTERNET,
WORKSPACE and SANDBOX.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from msgspec import Struct

from dms.domain.network import Network
from dms.domain.request import ServiceRequest


class Feature(Struct, frozen=True, kw_only=True):
    """name: as advertised. lacking: of a provider without it, as in "12D3Koo... is too old for ...". presumed: of a
    provider of an earlier version, which names no features at all."""

    name: str
    needed: Callable[[ServiceRequest], bool]
    lacking: str
    presumed: bool = False

    def is_in(self, advertised: Collection[str]) -> bool:
        return self.name in advertised or (self.presumed and not advertised)


def needs_workspace(request: ServiceRequest) -> bool:
    """Whether it is of no use without one that the provider can read or fill."""
    resume = request.params.resume_job
    return bool(request.params.results or request.params.inputs) or (resume is not None and resume.resume)


ARGUMENTS, INPUTS, ENVIRONMENT, INTERNET = "arguments", "inputs", "environment", "internet"
RESULTS, WORKSPACE = "results", "workspace"
SANDBOX = "sandbox"  # told, and needed by no request: a test container found nothing that a job could get out by

FEATURES = (
    Feature(
        name=ARGUMENTS,
        needed=lambda request: request.params.arguments is not None,
        lacking="runs an earlier version, which does not pass on params.arguments",
    ),
    Feature(
        name=INPUTS,
        needed=lambda request: bool(request.params.inputs),
        lacking="runs an earlier version, which does not fetch params.inputs",
    ),
    Feature(
        name=ENVIRONMENT,
        needed=lambda request: bool(request.params.env or request.params.secret_env),
        lacking="runs an earlier version, which does not pass on params.env and params.secret_env",
    ),
    Feature(
        name=INTERNET,
        needed=lambda request: request.network is Network.INTERNET,
        lacking="gives jobs no internet",
    ),
    Feature(
        name=RESULTS,
        needed=lambda request: bool(request.params.results),
        lacking="runs an earlier version, which gives no results back",
    ),
    Feature(
        name=WORKSPACE,
        needed=needs_workspace,
        lacking="can't read what a job leaves in its workspace, nor fill it",
        presumed=True,
    ),
)

UNDERSTOOD: frozenset[str] = frozenset({ARGUMENTS, INPUTS, ENVIRONMENT, RESULTS})


def needed_by(request: ServiceRequest) -> tuple[Feature, ...]:
    return tuple(feature for feature in FEATURES if feature.needed(request))
