"""GET /metrics, for Prometheus."""

from __future__ import annotations

from sanic import HTTPResponse, Request

from dms.adapters.http.replies import preferred
from dms.adapters.http.routes import TEXT, Api, Route
from dms.adapters.http.streams import Kind
from dms.domain.access import Need

OPEN_METRICS = "application/openmetrics-text"


async def metrics(request: Request, api: Api) -> HTTPResponse:
    context = request.app.ctx
    accepted = ", ".join(request.headers.getall("accept", []))
    body, content_type = await api.services.metrics.render(
        accepted if preferred(request, "text/plain", OPEN_METRICS) == OPEN_METRICS else "",
        {"websocket actions": context.hub.position},
        {"websocket": len(context.sockets), "event stream": api.streams.open(Kind.STREAM)},
    )
    return HTTPResponse(body, content_type=content_type)


ROUTES = (
    Route(
        "GET", "/metrics", metrics, "Figures for Prometheus, in its text format.", root=True,
        media={"text/plain": TEXT}, tags=("operators",), answer_example="dms_ready 1.0\n",
        needs=Need.LOCAL,
    ),
)  # fmt: skip
