"""REST: what the DMS finds about its own machine."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http.replies import json_reply
from dms.adapters.http.routes import Api, Route
from dms.application.device.doctor import Examination
from dms.domain.access import Need
from dms.domain.check import Check


class CheckRow(Struct, frozen=True, kw_only=True):
    """One line of an examination."""

    name: Annotated[str, Meta(description="what was looked at")]
    state: Annotated[str, Meta(description="passed, warning, failed or unknown")]
    found: Annotated[str, Meta(description="what there is")]
    advice: Annotated[str, Meta(description="what to do about it; empty if nothing")]
    required: Annotated[bool, Meta(description="whether peers' jobs are refused while it fails")]


class ExaminationAnswer(Struct, frozen=True, kw_only=True):
    """What the DMS finds about its own machine."""

    verdict: Annotated[str, Meta(description="the worst state of all rows")]
    trouble: Annotated[str, Meta(description="why no peer's job is taken because of it; empty if they are taken")]
    engine: Annotated[str, Meta(description="the container engine and its version")]
    sandbox: Annotated[list[CheckRow], Meta(description="what a test container tried from inside")]
    machine: Annotated[list[CheckRow], Meta(description="clock, disks, open files, engine, versions, keys, addresses")]


async def last(_request: Request, api: Api) -> HTTPResponse:
    return json_reply(_shown(await api.services.doctor.last()))


async def examine(_request: Request, api: Api) -> HTTPResponse:
    return json_reply(_shown(await api.services.doctor.examine()))


def _shown(found: Examination) -> ExaminationAnswer:
    return ExaminationAnswer(
        verdict=found.verdict,
        trouble=found.trouble,
        engine=found.engine,
        sandbox=[_row(row) for row in found.sandbox],
        machine=[_row(row) for row in found.machine],
    )


def _row(check: Check) -> CheckRow:
    return CheckRow(name=check.name, state=check.state, found=check.found, advice=check.advice, required=check.required)


_EXAMPLE: dict[str, Any] = {
    "verdict": "warning",
    "trouble": "",
    "engine": "Docker 28.5.1, runc 1.3.3",
    "sandbox": [
        {"name": "network", "state": "passed", "found": "a job without a network reaches only itself", "advice": "",
         "required": True},
    ],
    "machine": [
        {"name": "clock", "state": "warning", "found": "not synchronised, according to the kernel",
         "advice": "synchronise it over the network: timedatectl set-ntp true", "required": False},
    ],
}  # fmt: skip
ROUTES = (
    Route(
        "GET", "/device/doctor", last, "What was found about this machine.", answer=ExaminationAnswer,
        answer_example=_EXAMPLE, tags=("device",), needs=Need.SEE_PROVIDER,
        description="The sandbox as it was tried last (nothing before the machine is onboarded), the rest as of now.",
    ),
    Route(
        "POST", "/device/doctor", examine, "Examine this machine.", answer=ExaminationAnswer,
        answer_example=_EXAMPLE, tags=("device",), needs=Need.STEER_PROVIDER,
        description="A test container tries the sandbox of jobs from inside, which takes a second or two. A new "
        "result is recorded if the machine is onboarded.",
    ),
)  # fmt: skip
