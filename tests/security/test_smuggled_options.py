"""What a request says beyond what it can say: options of container engines, in every place, reach no provider and no
engine. That containers are made from one profile is `test_docker.py::test_inspect_equals_the_profile`."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any

import msgspec
import pytest

from dms.adapters.http.strict_json import parse
from dms.application.network.messages import DeploymentRequest
from dms.domain.event import new_id
from dms.domain.request import ServiceRequest, problems_of
from dms.errors import InvalidInput
from tests.fixtures.histories import request
from tests.integration.http.node import SERVICE_BODY

OPTIONS: dict[str, Any] = {
    "privileged": True,
    "volumes": {"/": {"bind": "/host", "mode": "rw"}},
    "binds": ["/:/host"],
    "mounts": [{"type": "bind", "source": "/", "target": "/host"}],
    "network": "host",
    "network_mode": "host",
    "pid_mode": "host",
    "ipc_mode": "host",
    "userns_mode": "host",
    "cgroup_parent": "/",
    "cap_add": ["SYS_ADMIN"],
    "devices": ["/dev/kmsg"],
    "device_cgroup_rules": ["a *:* rwm"],
    "device_requests": [{"Count": -1, "Capabilities": [["gpu"]]}],
    "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
    "sysctls": {"kernel.core_pattern": "|/x"},
    "user": "0:0",
    "runtime": "runc",
    "HostConfig": {"Privileged": True},
    "entrypoint": ["/bin/sh"],
}
PLACES = (), ("params",), ("constraints",)


def with_option(place: tuple[str, ...], name: str, base: Any) -> bytes:
    body = copy.deepcopy(base)
    at = body
    for step in place:
        at = at[step]
    at[name] = OPTIONS[name]
    return msgspec.json.encode(body)


@pytest.mark.parametrize(("place", "name"), list(product(PLACES, OPTIONS)))
def test_what_a_client_smuggles_in_is_refused_or_read_by_nobody(place: tuple[str, ...], name: str) -> None:
    plain = parse(msgspec.json.encode(SERVICE_BODY), ServiceRequest)
    try:
        found = parse(with_option(place, name, SERVICE_BODY), ServiceRequest)
    except InvalidInput:
        return
    assert found == plain or problems_of(found)


@pytest.mark.parametrize(("place", "name"), [(("request", *place), name) for place, name in product(PLACES, OPTIONS)])
def test_what_a_peer_smuggles_in_is_refused_or_read_by_nobody(place: tuple[str, ...], name: str) -> None:
    plain = DeploymentRequest(job_id=new_id(), request=request(), price="1", seal_key="00" * 32)
    base = msgspec.json.decode(msgspec.json.encode(plain))
    try:
        found = msgspec.json.decode(with_option(place, name, base), type=DeploymentRequest)
    except msgspec.ValidationError:
        return
    assert found == plain or problems_of(found.request)
