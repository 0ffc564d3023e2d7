"""What a request may need of a provider beyond room and price. A provider names in its advertisement what it can do;
one of an earlier version names nothing, and would leave out in silence what it doesn't know.

To add one: a line in FEATURES. What every DMS of this version can do is in UNDERSTOOD as well; what depends on how a
machine is set up is told to `DeviceService` by its wiring, or follows from the device's state, as INTERNET.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from dms.domain.network import Network
from dms.domain.request import ServiceRequest


class Feature(Struct, frozen=True, kw_only=True):
    """name: as advertised. lacking: of a provider without it, as in "12D3Koo... is too old for ..."."""

    name: str
    needed: Callable[[ServiceRequest], bool]
    lacking: str


ARGUMENTS, INPUTS, ENVIRONMENT, INTERNET = "arguments", "inputs", "environment", "internet"

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
)

UNDERSTOOD: frozenset[str] = frozenset({ARGUMENTS, INPUTS, ENVIRONMENT})


def needed_by(request: ServiceRequest) -> tuple[Feature, ...]:
    return tuple(feature for feature in FEATURES if feature.needed(request))
