"""REST of the original that this DMS does not do: answered with what to use in its place."""

from __future__ import annotations

from msgspec import Struct
from sanic import HTTPResponse, Request

from dms.adapters.http.problems import Problem, Refused, body_of
from dms.adapters.http.routes import Api, Handler, Parameter, Route
from dms.domain.access import Need

_MACHINE = (
    "this DMS runs no virtual machines: ask for a container with POST /api/v1/run/request-service, which bounds CPU, "
    "memory and time as a machine does"
)
_REMOTE = (
    "this DMS gives no shell on other machines (the original only sent each line back): follow a job's output at "
    "/api/v1/jobs/<job_id>/logs, its events at /api/v1/jobs/<job_id>/history, or talk to a peer with /api/v1/peers/chat"
)


class StartDefaultBody(Struct, frozen=True, kw_only=True):
    kernel_image_path: str
    filesystem_path: str
    public_key: str = ""
    node_id: str = ""


class StartCustomBody(Struct, frozen=True, kw_only=True):
    kernel_image_path: str
    filesystem_path: str
    vcpu_count: int = 0
    mem_size_mib: int = 0
    tap_device: str = ""


def _refusing(text: str) -> Handler:
    async def refuse(_request: Request, _api: Api) -> HTTPResponse:
        raise Refused(501, text)

    return refuse


_IMAGES = {"kernel_image_path": "/var/images/vmlinux", "filesystem_path": "/var/images/rootfs.ext4"}

ROUTES = (
    *(
        Route(
            "POST", path, _refusing(_MACHINE), summary, body, body_example=example, answer=Problem,
            answer_example=body_of(501, _MACHINE), status=501, deprecated=True, tags=("retired",), body_optional=True,
            needs=Need.LOCAL,
        )
        for path, summary, body, example in (
            ("/vm/start-default", "Start a virtual machine: not done.", StartDefaultBody, _IMAGES),
            ("/vm/start-custom", "Start a virtual machine: not done.", StartCustomBody,
             _IMAGES | {"vcpu_count": 2, "mem_size_mib": 1024}),
        )
    ),
    *(
        Route(
            "GET", path, _refusing(_REMOTE), "A shell on a peer: not done.",
            query=(Parameter("nodeID", "Peer id."),), answer=Problem, answer_example=body_of(501, _REMOTE), status=501,
            deprecated=True, tags=("retired",), needs=Need.LOCAL,
        )
        for path in ("/peers/ws", "/peers/shell", "/peers/log")
    ),
)  # fmt: skip
